"""How long is it from WAV bytes to text, beside TorchScript, ONNX Runtime and the machine's limit?

`conformer_s` with CTC, its first weights, on utterances of 10 s, alone and 16 together, on one
thread and on four. Ours is the exported SavedModel as `tfasr serve` calls it with
`gathering.one_thread`: as many calls at once as there are threads, and so one for an utterance
alone. The peers are a PyTorch module of the same shape and weights, filterbank and choice of
symbols in the graph, traced for the very shape: as TorchScript optimised for inference, and in ONNX
Runtime. They read WAV and join pieces in Python. Where there are several utterances and threads,
each is measured both with all in one call and in as many calls at once as threads, of which the
faster counts. All must come to the same texts, but for the odd word where two symbols are as good.
Each has a process of its own; they take turns, and a ratio is the median of the rounds'. The limit
is the best rate of float32 products on as many threads. Peers have environments of their own in
`--peers`, made when they are missing; one that can't be made has null for its figures.

Figures, by utterances B and threads T: `batch_B_threads_T_vs_torchscript` and `_vs_onnx` (times as
fast as the peer), `gemm_share_batch_B_threads_T` (share of the limit), and the real-time factors
`real_time_factor_batch_B_threads_T`.
`python -m benchmarks.inference [--batches 1,16] [--threads 1,4] [--rounds 7] [--json]`
"""

import argparse
import difflib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.limits import OPERATIONS, forward_operations, limit, set_threads
from benchmarks.peers import ONNXRUNTIME, TORCH
from benchmarks.step_workers import StepWorker, answer_steps, take_turns
from benchmarks.twins import plain_extractor, write_export, write_twin
from tfasr.audio.decoding import write_wav
from tfasr.configs.features import FbankConfig
from tfasr.configs.model import ModelConfig
from tfasr.configs.presets import PRESETS
from tfasr.configs.seeds import counted_generator
from tfasr.features.fbank import mel_weights
from tfasr.models.acoustic_model import AcousticModel
from tfasr.serving.runtime import AUDIO, ServedModel

BETTER = {
    "batch_1_threads_1_vs_torchscript": "higher",
    "batch_1_threads_1_vs_onnx": "higher",
    "batch_1_threads_4_vs_torchscript": "higher",
    "batch_1_threads_4_vs_onnx": "higher",
    "batch_16_threads_1_vs_torchscript": "higher",
    "batch_16_threads_1_vs_onnx": "higher",
    "batch_16_threads_4_vs_torchscript": "higher",
    "batch_16_threads_4_vs_onnx": "higher",
    "gemm_share_batch_1_threads_1": "higher",
    "gemm_share_batch_1_threads_4": "higher",
    "gemm_share_batch_16_threads_1": "higher",
    "gemm_share_batch_16_threads_4": "higher",
}

_CONFIGS = ("tiny", "conformer_s", "conformer_m", "conformer_l")
_FBANK = FbankConfig()
_SECONDS, _SEED = 10, 0
_SAMPLES = _SECONDS * _FBANK.sample_rate
_FRAMES = 1 + (_SAMPLES - _FBANK.frame_length) // _FBANK.frame_shift
# Of the characters, since rounding decides between symbols that are as good as each other.
_ALIKE = 0.98


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line; or is a worker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", choices=_CONFIGS, default="conformer_s", help="a preset")
    parser.add_argument("--batches", default="1,16", help="utterances together, by commas")
    parser.add_argument("--threads", default="1,4", help="by commas")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=Path, default=Path("work/peers"), help="environments")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--hear", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hear:
        folder, batch, threads = arguments.hear
        _answer(Path(folder), int(batch), int(threads))
        return
    figures = hearing_figures(
        PRESETS[arguments.config],
        [int(batch) for batch in arguments.batches.split(",")],
        [int(count) for count in arguments.threads.split(",")],
        arguments.rounds,
        arguments.peers,
    )
    if arguments.json:
        print(json.dumps(figures))


def hearing_figures(
    config: ModelConfig, batches: Sequence[int], threads: Sequence[int], rounds: int, peers: Path
) -> dict[str, float | None]:
    """Measures, prints the table, and gives the figures by their names.

    Args:
        config: Of a model with CTC.
        batches: Numbers of utterances that are heard together.
        threads: Numbers of threads.
        rounds: Turns of each.
        peers: Folder of the environments of others.
    """
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _write_case(config, folder, batches)
        print(f"{'':47}s (least to most)          real-time factor   peak GB")
        for batch in batches:
            operations = forward_operations(model, batch, _FRAMES)
            for count in threads:
                workers = _workers(folder, batch, count, peers)
                take_turns(workers, rounds)
                gigabytes = {name: worker.finish() for name, worker in workers.items()}
                _check(folder / f"batch-{batch}")
                case = f"batch_{batch}_threads_{count}"
                _tell(case, batch, workers, gigabytes)
                figures |= _figures(case, batch, workers, operations)
    return figures


def _write_case(config: ModelConfig, folder: Path, batches: Sequence[int]) -> AcousticModel:
    """Writes weights, pieces, WAV files and the exported model."""
    model = write_twin(config, folder, _SEED)
    # Else one symbol would be the best throughout.
    generator = counted_generator(_SEED, "benchmarks.inference")
    head = model.head.kernel
    head.assign(generator.standard_normal(head.shape, np.float32))
    weights = dict(np.load(folder / "weights.npz"))
    [place] = [name for name in weights if weights[name].shape == tuple(head.shape)]
    np.savez(folder / "weights.npz", **{**weights, place: head.numpy()})
    pieces = [f"▁{number}" for number in range(config.vocabulary)]
    extractor = plain_extractor(_FBANK.num_mels)
    statistics = np.array([extractor.statistics.mean, extractor.statistics.deviation], np.float32)
    np.savez(folder / "features.npz", mels=mel_weights(_FBANK), statistics=statistics)
    for batch in batches:
        inner = folder / f"batch-{batch}"
        inner.mkdir()
        (inner / "pieces.json").write_text(json.dumps(pieces))
        noise = generator.normal(0, 3000, [batch, _SAMPLES]).astype(np.int16)
        for number, samples in enumerate(noise):
            write_wav(inner / f"{number:02d}.wav", samples, _FBANK.sample_rate)
    write_export(model, extractor, pieces, folder / "conformer")
    return model


def _workers(folder: Path, batch: int, threads: int, peers: Path) -> dict[str, StepWorker]:
    """Starts what is measured, each with as many threads."""
    count = str(threads)
    ours = [sys.executable, "-m", "benchmarks.inference", "--hear", str(folder), str(batch), count]
    workers = {"ours": StepWorker(ours), "limit": limit("float32", threads)}
    torch, runtime = TORCH.python(peers), ONNXRUNTIME.python(peers)
    program = [str(torch), "-m", "benchmarks.torch_hearing", str(folder), str(_SAMPLES)]
    for calls in {1, threads if batch % threads == 0 else 1} if torch else ():
        ending = "" if calls == 1 else f" in {calls} calls"
        name = f"torchscript{ending}"
        workers[name] = StepWorker([*program, str(batch), count, str(calls), name])
        file = folder / f"{batch // calls}.onnx"
        export = [*program, str(batch // calls), "export", str(file)]
        if runtime and not subprocess.run(export, capture_output=True).returncode:
            name = f"onnx{ending}"
            own = [runtime, "-m", "benchmarks.onnx_hearing", str(folder / f"batch-{batch}")]
            workers[name] = StepWorker([*own, str(file), count, str(calls), name])
    return workers


def _check(folder: Path) -> None:
    """Refuses peers that hear something else."""
    ours = (folder / "ours.txt").read_text()
    for peer in folder.glob("*.txt"):
        theirs = peer.read_text()
        alike = difflib.SequenceMatcher(None, ours.split(), theirs.split(), autojunk=False).ratio()
        if alike < _ALIKE:
            raise RuntimeError(
                f"all must hear the same; {peer.stem} has {100 * alike:.1f} % of the words in "
                f"common: {theirs[:60]!r} for {ours[:60]!r}"
            )


def _tell(
    case: str, batch: int, workers: dict[str, StepWorker], gigabytes: dict[str, float]
) -> None:
    for name, worker in workers.items():
        spread = f"{min(worker.seconds):.3f} to {max(worker.seconds):.3f}"
        factor = "" if name == "limit" else f"{median(worker.seconds) / batch / _SECONDS:.4f}"
        print(
            f"{case:22} {name:23}{median(worker.seconds):7.3f} ({spread:16}) {factor:>15}"
            f"{gigabytes[name]:12.2f}",
            flush=True,
        )


def _figures(
    case: str, batch: int, workers: dict[str, StepWorker], operations: float
) -> dict[str, float | None]:
    """Ratios by their names in the results; None where a peer is not installed."""
    ours = workers["ours"].seconds
    figures: dict[str, float | None] = {}
    for peer in ("torchscript", "onnx"):
        found = [
            median(theirs / own for theirs, own in zip(worker.seconds, ours, strict=True))
            for name, worker in workers.items()
            if name.startswith(peer)
        ]
        figures[f"{case}_vs_{peer}"] = min(found, default=None)
    pairs = zip(workers["limit"].seconds, ours, strict=True)
    share = median(operations / OPERATIONS * limit / seconds for limit, seconds in pairs)
    figures[f"gemm_share_{case}"] = share
    figures[f"real_time_factor_{case}"] = median(ours) / batch / _SECONDS
    return figures


def _answer(folder: Path, batch: int, threads: int) -> None:
    """Answers with the hearing of our exported model, in as many calls at once as threads."""
    calls = min(batch, threads)
    set_threads(threads, operation=1)
    case = folder / f"batch-{batch}"
    wavs = [path.read_bytes() for path in sorted(case.glob("*.wav"))]
    model = ServedModel(folder / "conformer")
    model.warm_up()
    pool = ThreadPoolExecutor(calls)
    shares = [wavs[first::calls] for first in range(calls)]

    def step() -> float:
        texts = [""] * batch
        for first, answers in enumerate(pool.map(partial(model.answers, AUDIO), shares)):
            texts[first::calls] = [answer["text"] for answer in answers]
        (case / "ours.txt").write_text("\n".join(texts))
        return 0.0

    answer_steps(0, step)


if __name__ == "__main__":
    main()
