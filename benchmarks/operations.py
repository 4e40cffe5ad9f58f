"""Which operations take the time of a training step, and which gain nothing of more threads?

A step of `benchmarks.training` with a whole batch, by TensorFlow's profiler: the time of each kind
of operation, one operation after the other, on one thread and on all. `PartitionedCall` is a chain
that XLA compiles (tfasr/models/fusion.py). A kind that takes as long on all threads as on one is
what parts of a batch side by side (`optimizer.parallel`) gain from.
`python -m benchmarks.operations [--size s] [--precision float32] [--out TABLE.md]`
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.training import make_steps, write_case
from tfasr.artifacts.files import write_text
from tfasr.configs.presets import PRESETS

_STEPS = 2
_ROWS = 24

# Milliseconds and calls of a step, by kind of operation.
Times = dict[str, tuple[float, float]]


def main() -> None:
    """Measures, and prints or writes the table; or is a worker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="s", choices=("s", "m", "l"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    config = PRESETS[f"conformer_{arguments.size}"]
    if arguments.case:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        _, take, _ = make_steps(config, arguments.precision, arguments.case)
        print(json.dumps(_times(take)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_case(config, arguments.size, Path(folder))
        one, several = (_worker(folder, arguments, threads) for threads in (1, 0))
    table = _table(f"conformer_{arguments.size}, {arguments.precision}", one, several)
    print(table)
    if arguments.out:
        write_text(arguments.out, table)


def _worker(folder: str, arguments: argparse.Namespace, threads: int) -> Times:
    program = [sys.executable, "-m", "benchmarks.operations", f"--case={folder}"]
    program += [f"--size={arguments.size}", f"--precision={arguments.precision}"]
    done = subprocess.run(
        [*program, f"--threads={threads}"], stdout=subprocess.PIPE, text=True, check=True
    )
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def _times(take: Callable[[], object]) -> Times:
    for _ in range(2):
        take()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(_STEPS):
            take()
        tf.profiler.experimental.stop()
        [path] = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    milliseconds: defaultdict[str, float] = defaultdict(float)
    calls: defaultdict[str, float] = defaultdict(float)
    for plane in space.planes:
        names = {key: event.name for key, event in plane.event_metadata.items()}
        for event in (event for line in plane.lines for event in line.events):
            # An operation of a graph is NAME:KIND, with a suffix of its own behind #; the call
            # of a graph has a space before its name.
            name, _, kind = names[event.metadata_id].partition("#")[0].rpartition(":")
            if kind.isidentifier() and name and not name.endswith(":") and "CPU" in plane.name:
                milliseconds[kind] += event.duration_ps / 1e9 / _STEPS
                calls[kind] += 1 / _STEPS
    return {kind: (time, calls[kind]) for kind, time in milliseconds.items()}


def _table(title: str, one: Times, several: Times) -> str:
    whole = sum(time for time, _ in one.values())
    lines = [
        f"Operations of a training step of {title}: ms, one after the other",
        "",
        "| kind | calls | one thread | share | all threads | gain |",
        "|---|---|---|---|---|---|",
    ]
    for kind, (time, calls) in sorted(one.items(), key=lambda item: -item[1][0])[:_ROWS]:
        other = several[kind][0]
        cells = f"{calls:.0f} | {time:.1f} | {time / whole:.1%} | {other:.1f} | {time / other:.2f}"
        lines.append(f"| {kind} | {cells} |")
    total = sum(time for time, _ in several.values())
    lines.append(f"| all | | {whole:.1f} | | {total:.1f} | {whole / total:.2f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
