"""Do two hosts train what one does, and how much faster?

`tfasr train` on noise of 10 s an utterance, in steps of two batches: by one process that takes both
batches, and by two processes on this machine that take one each (`--distribution.hosts`). Each
process has a core of its own, the first two that this one may use; so two hosts have two cores and
one has one. The rates are those of the last log line of each run, behind steps in which graphs are
made; ratios are of two runs, one after the other, so give `--repeats` to `benchmarks.bench`.

Figures: `loss_difference` (largest relative difference of logged and validation losses, 0 where
they are the same bit by bit) and `two_hosts_speed` (audio a second of two hosts by that of one).
`python -m benchmarks.scaling [--config conformer_s] [--steps 40] [--json]`
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfasr.artifacts.files import read_json_lines, write_json_lines
from tfasr.audio.decoding import write_wav
from tfasr.configs.presets import PRESETS
from tfasr.configs.seeds import counted_generator

BETTER = {"loss_difference": "lower", "two_hosts_speed": "higher"}

_RATE, _SECONDS, _WORDS = 16000, 10, ("alpha", "beta", "gamma", "delta")
_UTTERANCES = {"train": 32, "valid": 4, "test": 1}
_LOG_EVERY = 20  # Steps between lines of `tfasr train`.
_TFASR = [sys.executable, "-m", "pipelines.cli"]


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    conformers = [name for name, model in PRESETS.items() if model.family == "conformer"]
    parser.add_argument("--config", choices=conformers, default="tiny", help="a preset")
    parser.add_argument("--steps", type=int, default=2 * _LOG_EVERY, help="of each run")
    parser.add_argument("--batch", type=int, default=2, help="utterances of a batch")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    if arguments.steps % _LOG_EVERY or arguments.steps < 2 * _LOG_EVERY:
        parser.error(f"--steps must be a multiple of {_LOG_EVERY}, two of them at least")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        command = [
            *_TFASR,
            *("train", "--config", arguments.config, "--data", str(folder / "data")),
            *("--steps", str(arguments.steps), "--valid_every", str(arguments.steps)),
            *("--optimizer.accumulate", "2"),
            *("--batching.batch_seconds", str(arguments.batch * _SECONDS + 1)),
        ]
        one = _trained(command, folder / "one", hosts=1)
        two = _trained(command, folder / "two", hosts=2)
    figures = compared(one, two)
    for hosts, rows in (("one host", one), ("two hosts", two)):
        losses = " ".join(f"{row['loss']:.6f}" for row in rows if "loss" in row)
        print(f"{hosts:10}{_rate(rows):8.2f} s of audio a second   losses {losses}")
    print(f"largest relative difference of losses {figures['loss_difference']:.1e}")
    if arguments.json:
        print(json.dumps(figures))


def _prepare(folder: Path) -> None:
    """Writes a corpus of noise and has it prepared."""
    generator = counted_generator(0, "benchmarks.scaling")
    for split, count in _UTTERANCES.items():
        rows = []
        for number in range(count):
            path = folder / f"{split}-{number}.wav"
            noise = generator.normal(0, 3000, _RATE * _SECONDS)
            write_wav(path, noise.astype(np.int16), _RATE)
            text = " ".join(generator.choice(_WORDS, 8))
            rows.append({"audio_filepath": str(path), "duration": _SECONDS, "text": text})
        write_json_lines(folder / "corpus" / f"{split}.jsonl", rows)
    command = ["prepare", "--corpus", "manifest", "--source", str(folder / "corpus")]
    _finish([_started([*_TFASR, *command, "--tokenizer.kind", "char", "--out", f"{folder}/data"])])


def _trained(command: Sequence[str], run: Path, hosts: int) -> list[dict[str, Any]]:
    """Trains with a process a host, each on a core of its own; gives the lines of the log."""
    cores = sorted(os.sched_getaffinity(0))
    options: list[list[str]] = [[]]
    if hosts > 1:
        addresses = ",".join(f"localhost:{port}" for port in _free_ports(hosts))
        common = ["--distribution.hosts", addresses, "--distribution.index"]
        options = [[*common, str(index)] for index in range(hosts)]
    processes = [
        _started([*command, "--run", str(run), *own], cores[index % len(cores)])
        for index, own in enumerate(options)
    ]
    _finish(processes)
    return list(read_json_lines(run / "metrics.jsonl"))


def _started(command: Sequence[str], core: int | None = None) -> subprocess.Popen[str]:
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    return subprocess.Popen(
        [*pinned, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    told = [process.communicate()[0] for process in processes]
    for process, text in zip(processes, told, strict=True):
        if process.returncode:
            raise SystemExit(f"{process.args!r} failed: {text}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _rate(rows: Sequence[dict[str, Any]]) -> float:
    return float([row for row in rows if "loss" in row][-1]["audio_seconds_per_second"])


def compared(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Compares the logs of two runs, rows as in `metrics.jsonl`."""
    if [row.keys() for row in one] != [row.keys() for row in two]:
        raise ValueError(f"both runs must log the same lines; got {len(one)} and {len(two)}")
    apart = [
        abs(ours[name] / theirs[name] - 1)
        for ours, theirs in zip(two, one, strict=True)
        for name in ("loss", "valid_loss")
        if name in theirs
    ]
    return {
        "loss_difference": max(apart),
        "two_hosts_speed": _rate(two) / _rate(one),
        "one_host_audio_seconds_per_second": _rate(one),
        "two_hosts_audio_seconds_per_second": _rate(two),
    }


if __name__ == "__main__":
    main()
