"""What does serving cost, and what does it gain, beside the SavedModel alone and other runtimes?

Of an exported model and strings of digits that espeak-ng speaks, 2 to 4 s each:

- `server_overhead`: by how much longer an utterance takes with 16 clients that ask at once, over
  REST, than where the SavedModel itself is called with the same utterances, 16 at a time;
- `batching_gain`: how many times as many are answered as by a server that hears one at a time;
- `p99_over_p50`: of the latency where requests come at random, at 70 % of what the server can do;
- `lost`: of all these requests and more, 10,000 together, those that got no answer or another's;
- `memory_growth`: megabytes of the server after them over those after a third of them: before, it
  meets shapes that it has not seen, for each of which oneDNN keeps its preparations.

The server, the load and the SavedModel have processes of their own. They run in turn, so that a
change of the machine's speed meets all, and a ratio is the median of the rounds'.

And of `conformer_s` with random weights, from WAV bytes to text, 10 s of audio, one utterance at a
time: `realtime_vs_onnxruntime` and `realtime_vs_torchscript`, how many times as fast a SavedModel
is, on one thread or on four, whichever is less (`benchmarks.inference` has these one by one). Peers
have environments of their own in `--peers`, made when they are missing. Linux only.
`python -m benchmarks.serving [--requests 10000] [--rounds 5] [--only load|speed] [--json]`
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.inference import hearing_figures
from benchmarks.step_workers import StepWorker, answer_steps
from tfasr.audio.decoding import read_audio_bytes, wav_bytes
from tfasr.audio.espeak import SAMPLE_RATE, Sentence, speak
from tfasr.configs.presets import CONFORMER_S
from tfasr.configs.seeds import counted_generator
from tfasr.serving.runtime import newest_version

BETTER = {
    "server_overhead": "lower",
    "batching_gain": "higher",
    "p99_over_p50": "lower",
    "lost": "lower",
    "memory_growth": "lower",
    "realtime_vs_onnxruntime": "higher",
    "realtime_vs_torchscript": "higher",
}

_CLIENTS = 16
_UTTERANCES = 64
_THREADS = (1, 4)
_SHARE = 0.7  # Of the throughput, where requests come at random.
_DIGITS = "zero one two three four five six seven eight nine".split()
_VOICES = ("m1", "m3", "f2", "f4")


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line; or is a worker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("saved_models/digits"))
    parser.add_argument("--requests", type=int, default=10_000, help="in all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("load", "speed"), help="one of the two parts")
    parser.add_argument("--peers", type=Path, default=Path("work/peers"), help="environments")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--direct", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.direct:
        _answer(arguments.model, arguments.direct)
        return
    figures: dict[str, float | None] = {}
    if arguments.only != "speed":
        figures |= _measure_load(arguments.model, arguments.requests, arguments.rounds)
    if arguments.only != "load":
        figures |= _measure_speed(arguments.rounds, arguments.peers)
    for name, value in figures.items():
        print(f"{name:32}{'' if value is None else f'{value:10.3f}'}")
    if arguments.json:
        print(json.dumps(figures))


@dataclass(kw_only=True)
class _Server:
    """A server under load.

    Args:
        process: Of `tfasr serve`.
        port: Of its REST.
        load: The process that asks it.
    """

    process: subprocess.Popen[str]
    port: int
    load: Any
    requests: int = 0
    wrong: int = 0
    rates: list[float] = field(default_factory=list)

    def ask(self, requests: int, **how: float) -> dict[str, Any]:
        """Has it asked; tells what came of it."""
        order = {"port": self.port, "clients": _CLIENTS, "requests": requests, **how}
        print(json.dumps(order), file=self.load.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.load.stdout.readline())
        self.requests += requests
        self.wrong += answer["wrong"]
        if "rate" not in how:
            self.rates.append(requests / answer["seconds"])
        return answer

    @property
    def megabytes(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def _measure_load(model: Path, requests: int, rounds: int) -> dict[str, float | None]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _write_speech(model, folder)
        command = [sys.executable, "-m", "benchmarks.serving", "--model", str(model)]
        direct = StepWorker([*command, "--direct", str(folder)])
        direct.start()
        server = stack.enter_context(_serving(model, folder))
        alone = stack.enter_context(_serving(model, folder, "--gathering.max_batch=1"))
        each = min(16 * _UTTERANCES, max(_UTTERANCES, requests // (3 * rounds)))
        for one in (server, alone):
            one.ask(each)
            one.rates.clear()
        for _ in range(rounds):
            direct.take()
            server.ask(each)
            alone.ask(each)
        before = server.megabytes
        spread = server.ask(2 * each, rate=_SHARE * median(server.rates))
        server.ask(max(_CLIENTS, requests - server.requests))
        grown = server.megabytes - before
        direct.finish()
    _tell(direct, server, alone, spread)
    latencies = np.percentile(spread["latencies"], [50, 99])
    seconds = zip(direct.seconds, server.rates, strict=False)
    return {
        "server_overhead": median(_UTTERANCES / (s * rate) for s, rate in seconds) - 1,
        "batching_gain": median(a / b for a, b in zip(server.rates, alone.rates, strict=False)),
        "p99_over_p50": float(latencies[1] / latencies[0]),
        "lost": server.wrong + alone.wrong,
        "memory_growth": grown,
    }


def _measure_speed(rounds: int, peers: Path) -> dict[str, float | None]:
    found = hearing_figures(CONFORMER_S, [1], _THREADS, rounds, peers)
    figures: dict[str, float | None] = {}
    for name, peer in (("onnxruntime", "onnx"), ("torchscript", "torchscript")):
        ratios = [found[f"batch_1_threads_{count}_vs_{peer}"] for count in _THREADS]
        known = [ratio for ratio in ratios if ratio is not None]
        figures[f"realtime_vs_{name}"] = min(known, default=None)
    return figures


def _tell(direct: StepWorker, server: _Server, alone: _Server, spread: dict[str, Any]) -> None:
    rates = {
        "SavedModel, 16 at a time": [_UTTERANCES / seconds for seconds in direct.seconds],
        "server, 16 clients": server.rates,
        "server of batch 1, 16 clients": alone.rates,
    }
    print(f"{'':32}utterances a second (least to most)")
    for name, values in rates.items():
        print(f"{name:32}{median(values):8.1f} ({min(values):.1f} to {max(values):.1f})")
    parts = np.percentile(spread["latencies"], [50, 90, 99, 100]) * 1000
    shown = ", ".join(f"{part:.1f}" for part in parts)
    print(f"latency at {100 * _SHARE:g} % load, ms: {shown} (50, 90, 99, 100 %)")
    print(f"{server.requests + alone.requests:,} requests, {server.wrong + alone.wrong} wrong")


def _write_speech(model: Path, folder: Path) -> None:
    """Writes utterances, and the text that the SavedModel gives for each alone."""
    version = model / str(newest_version(model))
    rate = json.loads((version / "export.json").read_text())["sample_rate"]
    call = tf.saved_model.load(str(version)).signatures["serving_default"]
    texts = []
    for number, samples in enumerate(speak(_sentences())):
        spoken = wav_bytes(samples, SAMPLE_RATE)
        wav = wav_bytes(read_audio_bytes(spoken, str(number), rate), rate)
        (folder / f"{number}.wav").write_bytes(wav)
        texts.append(call(audio=tf.constant([wav]))["text"].numpy()[0].decode())
    (folder / "texts.json").write_text(json.dumps(texts))


def _sentences() -> Iterator[Sentence]:
    for number in range(_UTTERANCES):
        generator = counted_generator(0, "benchmarks.serving", number)
        digits = generator.choice(_DIGITS, generator.integers(4, 9))
        yield Sentence(
            sentence_id=str(number),
            text=" ".join(digits),
            accent="en-us",
            variant=_VOICES[number % len(_VOICES)],
            rate=140,
        )


@contextmanager
def _serving(model: Path, folder: Path, *options: str) -> Iterator[_Server]:
    command = [sys.executable, "-m", "pipelines.cli", "serve", f"--model={model}", "--port=0"]
    load = [sys.executable, "-m", "benchmarks.serving_load", str(folder), model.resolve().name]
    with ExitStack() as stack:
        process = stack.enter_context(_ended([*command, *options]))
        greeting = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://[^:]+:(\d+)", greeting)
        if found is None:
            raise RuntimeError("the server must say where it listens; it says why above")
        yield _Server(process=process, port=int(found[1]), load=stack.enter_context(_ended(load)))


@contextmanager
def _ended(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _answer(model: Path, folder: Path) -> None:
    """Answers with calls of the SavedModel, 16 utterances each, through all of them."""
    loaded = tf.saved_model.load(str(model / str(newest_version(model))))
    call = loaded.signatures["serving_default"]
    wavs = [(folder / f"{number}.wav").read_bytes() for number in range(_UTTERANCES)]
    texts = json.loads((folder / "texts.json").read_text())

    def step() -> float:
        found = []
        for start in range(0, _UTTERANCES, _CLIENTS):
            answer = call(audio=tf.constant(wavs[start : start + _CLIENTS]))
            found += [text.decode() for text in answer["text"].numpy()]
        return float(sum(a != b for a, b in zip(found, texts, strict=True)))

    answer_steps(0, step)


if __name__ == "__main__":
    main()
