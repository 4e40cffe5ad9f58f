"""How long does `tfasr` take to answer?

`tfasr --help`, a wrong option, and `tfasr transcribe` of one file of a second by an exported model,
the demonstration model where none is given; from the command to its end. What imports and files
come from the disk the first time is left out: each is run once before.

Figures: `help_seconds`, `wrong_option_seconds`, `transcribe_seconds`, and `transcribe_processor`,
the seconds of all processors together, which other work on the machine changes less.
`python -m benchmarks.start [--model saved_models/NAME] [--repeats 7] [--json]`
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from tfasr.artifacts.files import read_json
from tfasr.audio.decoding import write_wav

BETTER = {
    "help_seconds": "lower",
    "wrong_option_seconds": "lower",
    "transcribe_seconds": "lower",
    "transcribe_processor": "lower",
}

_DEMONSTRATION = Path("saved_models/digits")
_TFASR = [sys.executable, "-m", "pipelines.cli"]


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=_DEMONSTRATION, help="an exported model")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    commands = {
        "help_seconds": ["--help"],
        "wrong_option_seconds": ["train", "--stepz", "3"],
    }
    with tempfile.TemporaryDirectory() as folder:
        speech = _second(arguments.model, Path(folder))
        commands["transcribe_seconds"] = ["transcribe", f"--model={arguments.model}", speech]
        times = {
            key: _times([*_TFASR, *command], arguments.repeats) for key, command in commands.items()
        }
    figures = {key: median(seconds) for key, (seconds, _) in times.items()}
    figures["transcribe_processor"] = median(times["transcribe_seconds"][1])
    for key, (seconds, processor) in times.items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(
            f"tfasr {commands[key][0]:12}{median(seconds):6.2f} s ({spread}), "
            f"{median(processor):.2f} s of processors"
        )
    if arguments.json:
        print(json.dumps(figures))


def _second(model: Path, folder: Path) -> str:
    newest = max(
        (path for path in model.iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )
    rate = read_json(newest / "export.json")["sample_rate"]
    write_wav(folder / "second.wav", np.zeros(rate, np.int16), rate)
    return str(folder / "second.wav")


def _times(command: Sequence[str], repeats: int) -> tuple[list[float], list[float]]:
    """Runs a command once, then times it: by the clock, and of all processors together."""
    seconds, processor = [], []
    for _ in range(repeats + 1):
        started, used = time.perf_counter(), _used()
        subprocess.run(command, capture_output=True)
        seconds.append(time.perf_counter() - started)
        processor.append(_used() - used)
    return seconds[1:], processor[1:]


def _used() -> float:
    """Seconds of processors that children have used."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
