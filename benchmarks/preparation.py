"""How many utterances are prepared a second, and in how much memory?

Prepares a manifest of many lines that name a few recordings of 0.2 s, as a user would: by the
command, in its own processes. Memory is the resident memory of all of them together, so that
what they share counts for each. `python -m benchmarks.preparation [--lines N] [--json]`
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from tfasr.artifacts.files import read_json, write_json_lines
from tfasr.audio.decoding import write_wav
from tfasr.configs.seeds import counted_generator

_RATE = 16000
_SECONDS = 0.2
_RECORDINGS = 8
_WORDS = "one two three four five six seven eight nine ten".split()
_EVERY = 0.1  # seconds between two looks at the memory


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of the manifest")
    parser.add_argument("--jobs", type=int, default=0, help="as of tfasr prepare")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_corpus(folder / "corpus", arguments.lines)
        seconds, peak = _prepare(folder, arguments.jobs)
        splits = read_json(folder / "data" / "data.json")["splits"].values()
        prepared = sum(split["utterances"] for split in splits)
    print(f"utterances   {prepared:10}")
    print(f"seconds      {seconds:10.1f}")
    print(f"a second     {prepared / seconds:10.0f}")
    print(f"peak memory  {peak / 1e9:10.2f} GB")
    if arguments.json:
        figures = {"utterances_per_second": prepared / seconds, "peak_gigabytes": peak / 1e9}
        print(json.dumps(figures))


def _write_corpus(folder: Path, lines: int) -> None:
    time_axis = np.arange(round(_RATE * _SECONDS)) / _RATE
    folder.mkdir()
    for number in range(_RECORDINGS):
        tone = 6000 * np.sin(2 * np.pi * 200 * (number + 1) * time_axis)
        write_wav(folder / f"{number}.wav", tone.astype(np.int16), _RATE)
    words = counted_generator(0, "benchmarks.preparation").choice(_WORDS, (lines, 8))
    rows = (
        {
            "id": f"tone-{number:07d}",
            "audio_filepath": f"{number % _RECORDINGS}.wav",
            "duration": _SECONDS,
            "text": " ".join(words[number]),
            "speaker": f"speaker-{number % 100:02d}",
        }
        for number in range(lines)
    )
    write_json_lines(folder / "train.jsonl", rows)


def _prepare(folder: Path, jobs: int) -> tuple[float, int]:
    """Gives the seconds that the command took and the most bytes that were resident."""
    command = [
        *(sys.executable, "-m", "pipelines.cli", "prepare", "--corpus", "manifest"),
        *("--source", str(folder / "corpus"), "--out", str(folder / "data")),
        *("--tokenizer.kind", "char", "--jobs", str(jobs)),
    ]
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(_EVERY)
    if process.returncode:
        raise RuntimeError(f"tfasr prepare must end well; it ended with {process.returncode}")
    return time.perf_counter() - started, peak


def _resident(pid: int) -> int:
    """Resident bytes of a process and all that it started."""
    resident = 0
    try:
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            resident += process.memory_info().rss
    # It ended while it was looked at.
    except psutil.NoSuchProcess:
        return resident
    return resident


if __name__ == "__main__":
    main()
