"""How long does `tfasr` take to answer?

`tfasr --help`, a wrong option, and, of an exported model, `tfasr transcribe` of one file of a
second, from the command to its end. What imports and files come from the disk the first time is
left out: each is run once before.
`python -m benchmarks.start [--model saved_models/NAME] [--repeats 7] [--json]`
"""

import argparse
import json
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

BETTER = {"help_seconds": "lower", "wrong_option_seconds": "lower", "transcribe_seconds": "lower"}

_TFASR = [sys.executable, "-m", "pipelines.cli"]


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="an exported model")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    commands = {
        "help_seconds": ["--help"],
        "wrong_option_seconds": ["train", "--stepz", "3"],
    }
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is not None:
            speech = _second(arguments.model, Path(folder))
            commands["transcribe_seconds"] = ["transcribe", f"--model={arguments.model}", speech]
        seconds = {
            key: _seconds([*_TFASR, *command], arguments.repeats)
            for key, command in commands.items()
        }
    for key, values in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"tfasr {commands[key][0]:12}{median(values):6.2f} s ({spread})")
    if arguments.json:
        print(json.dumps({key: median(values) for key, values in seconds.items()}))


def _second(model: Path, folder: Path) -> str:
    newest = max(
        (path for path in model.iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )
    rate = read_json(newest / "export.json")["sample_rate"]
    write_wav(folder / "second.wav", np.zeros(rate, np.int16), rate)
    return str(folder / "second.wav")


def _seconds(command: Sequence[str], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True)
        found.append(time.perf_counter() - started)
    return found[1:]


if __name__ == "__main__":
    main()
