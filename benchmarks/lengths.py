"""What does an utterance cost by its length, and a batch by its size?

The encoder of `conformer_s`, forward, from features, in three kinds: dense attention, ProbSparse
attention, and one that streams in chunks of 640 ms with 2.56 s behind them, fed chunk by chunk.
One utterance of 5 to 600 s, and batches of 1 to 16 utterances of 10 s. Each kind has two processes
of its own, one that takes the lengths as they rise and one the batches, so that the peak of its
memory is that of the latest; start and graph are included. The median of three calls behind a first
one is told, of fewer where they take over 10 s. A length whose call may need more than
`--gigabytes` is left out: dense attention's memory grows as the square. Linux only.

Figures: `KIND_exponent` (of the seconds over the lengths from 60 s on), `KIND_600_gigabytes`, and
the times and peaks of all cases; a case that was left out is null. `--figure` draws them.
`python -m benchmarks.lengths [--gigabytes 8] [--longest 600] [--json]`
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tfasr.configs.model import ModelConfig, StreamingConfig
from tfasr.configs.presets import PRESETS
from tfasr.configs.seeds import counted_generator
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.models.streaming import StreamingEncoder
from tfasr.study.drawing import BLUE, GREY, VERMILION, write_png

BETTER = {
    "dense_exponent": "lower",
    "probsparse_exponent": "lower",
    "streaming_exponent": "lower",
    "probsparse_600_gigabytes": "lower",
    "streaming_600_gigabytes": "lower",
}

_CONFIG = PRESETS["conformer_s"]
_CHUNK = 16  # Frames of 40 ms.
_STREAMING = StreamingConfig(chunks=(_CHUNK,), left_context=64)
_KINDS: dict[str, ModelConfig] = {
    "dense": _CONFIG,
    "probsparse": replace(_CONFIG, encoder=replace(_CONFIG.encoder, attention="probsparse")),
    # Group norm over time would need the whole utterance.
    "streaming": replace(
        _CONFIG,
        encoder=replace(_CONFIG.encoder, streaming=_STREAMING, conv_norm="cumulative_group"),
    ),
}
_COLOURS = {"dense": VERMILION, "probsparse": BLUE, "streaming": GREY}
_LENGTHS = (5, 10, 30, 60, 120, 300, 600)
_BATCHES = (1, 2, 4, 8, 16)
_BATCH_SECONDS, _FRAMES_PER_SECOND = 10, 100
_LONG_CALL, _REPEATS = 10.0, 3  # Seconds; calls.
_FITTED = 60  # Seconds of audio from which on the exponent is fitted.

Call = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a case came to.

    Args:
        kind: Of encoder.
        axis: "lengths" or "batches", whichever it is a case of.
        seconds: Of an utterance.
        batch: Utterances.
        call: Seconds of a call; None where it was left out.
        gigabytes: Peak of the process; None where it was left out.
    """

    kind: str
    axis: str
    seconds: int
    batch: int
    call: float | None = None
    gigabytes: float | None = None


def main() -> None:
    """Measures, prints the table, draws the figure and, if asked, the JSON; or is a worker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=8.0, help="most that a call may need")
    parser.add_argument("--longest", type=int, default=max(_LENGTHS), help="seconds")
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/figures/lengths.png"))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, axis = arguments.measure
        _measure(kind, axis, arguments)
        return
    print("kind        seconds   batch    s a call   times real time   peak GB")
    costs = [
        cost
        for kind in _KINDS
        for axis in ("lengths", "batches")
        for cost in _measured(kind, axis, arguments)
    ]
    _draw(costs, arguments.figure)
    if arguments.json:
        print(json.dumps(figures_of(costs)))


def _measured(kind: str, axis: str, arguments: argparse.Namespace) -> Iterator[Cost]:
    """Runs a process over an axis and yields its cases, each as it is there."""
    command = [sys.executable, "-m", "benchmarks.lengths", "--measure", kind, axis]
    command += ["--gigabytes", str(arguments.gigabytes), "--longest", str(arguments.longest)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            cost = Cost(**json.loads(line))
            print(f"{cost.kind:12}{cost.seconds:7d}{cost.batch:8d}{_told(cost)}", flush=True)
            yield cost
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")


def _told(cost: Cost) -> str:
    if cost.call is None or cost.gigabytes is None:
        return "    left out"
    speed = cost.seconds * cost.batch / cost.call
    return f"{cost.call:12.3f}{speed:18.0f}{cost.gigabytes:10.2f}"


def _measure(kind: str, axis: str, arguments: argparse.Namespace) -> None:
    """Takes the cases of an axis and prints each as a line of JSON."""
    call = _call_of(kind)
    start = _peak_gigabytes()
    needed, before = 0.0, 1.0
    for seconds, batch in _cases(axis):
        size = seconds if axis == "lengths" else batch
        growth = (size / before) ** (2 if axis == "lengths" and kind == "dense" else 1)
        if seconds > arguments.longest or start + needed * growth > arguments.gigabytes:
            _say(Cost(kind=kind, axis=axis, seconds=seconds, batch=batch))
            continue
        shape = [batch, seconds * _FRAMES_PER_SECOND, _CONFIG.num_mels]
        noise = counted_generator(0, "benchmarks.lengths").standard_normal(shape, np.float32)
        features = tf.constant(noise)
        call(features)  # Makes graphs and takes memory.
        times: list[float] = []
        while len(times) < _REPEATS and sum(times) < _LONG_CALL:
            began = time.perf_counter()
            call(features)
            times.append(time.perf_counter() - began)
        measured = median(times)
        peak = _peak_gigabytes()
        needed, before = max(peak - start, 0.1), float(size)
        cost = Cost(kind=kind, axis=axis, seconds=seconds, batch=batch)
        _say(replace(cost, call=measured, gigabytes=peak))


def _cases(axis: str) -> list[tuple[int, int]]:
    if axis == "lengths":
        return [(seconds, 1) for seconds in _LENGTHS]
    return [(_BATCH_SECONDS, batch) for batch in _BATCHES]


def _say(cost: Cost) -> None:
    print(json.dumps(asdict(cost)), flush=True)


def _call_of(kind: str) -> Call:
    """Makes the function from features [B, T, F] to an encoding, done when it returns."""
    model = build_model(_KINDS[kind])
    initialize(Layout(model), 0)
    features = tf.TensorSpec([None, None, model.num_mels])
    if kind != "streaming":
        encode = tf.function(
            lambda x: model.encode(x, tf.fill(tf.shape(x)[:1], tf.shape(x)[1]))[0][:, -1, 0],
            input_signature=[features],
            autograph=False,
        )
        return lambda x: encode(x).numpy()
    encoder = StreamingEncoder(model, _CHUNK)
    step = tf.function(encoder.step, autograph=False)

    def stream(x: tf.Tensor) -> tf.Tensor:
        batch, frames = x.shape[:2]
        state = encoder.start(batch)
        for first in range(0, frames, encoder.num_features):
            chunk = x[:, first : first + encoder.num_features]
            real = tf.fill([batch], chunk.shape[1])
            chunk = tf.pad(chunk, [[0, 0], [0, encoder.num_features - chunk.shape[1]], [0, 0]])
            encoded, _, state = step(chunk, real, state)
        return encoded.numpy()

    return stream


def _peak_gigabytes() -> float:
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024**2


def figures_of(costs: list[Cost]) -> dict[str, float | None]:
    """Names the figures of all cases; an exponent is of two lengths at least."""
    figures: dict[str, float | None] = {}
    for kind in _KINDS:
        along = [cost for cost in costs if cost.kind == kind and cost.axis == "lengths"]
        points = [(c.seconds, c.call) for c in along if c.call and c.seconds >= _FITTED]
        figures[f"{kind}_exponent"] = None
        if len(points) > 1:
            seconds, calls = np.log(np.array(points)).T
            figures[f"{kind}_exponent"] = float(np.polyfit(seconds, calls, 1)[0])
    for cost in costs:
        case = f"{cost.kind}_{cost.seconds}" + (f"_batch_{cost.batch}" if cost.batch > 1 else "")
        figures[f"{case}_seconds"] = cost.call
        figures[f"{case}_gigabytes"] = cost.gigabytes
    return figures


def _draw(costs: list[Cost], path: Path) -> None:
    """Draws time and memory over length and over batch."""
    figure = Figure(figsize=(8.6, 6.4), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, axis in zip(panels, ("lengths", "batches"), strict=True):
        for kind in _KINDS:
            cases = [c for c in costs if (c.kind, c.axis) == (kind, axis) and c.call is not None]
            size = [case.seconds if axis == "lengths" else case.batch for case in cases]
            for axes, values in zip(
                row, ([c.call for c in cases], [c.gigabytes for c in cases]), strict=True
            ):
                axes.plot(size, values, marker="o", color=_COLOURS[kind], label=kind)
    labels = ("seconds of one utterance", "utterances of 10 s")
    for row, label, sizes in zip(panels, labels, (_LENGTHS, _BATCHES), strict=True):
        for axes in row:
            _axes(axes, label, sizes)
        row[0].set_yscale("log")
        row[0].set_ylabel("seconds a call")
        row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        row[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        row[0].yaxis.set_minor_formatter(NullFormatter())
        row[1].set_ylim(bottom=0)
        row[1].set_ylabel("peak of the process, GB")
    panels[0, 0].legend(frameon=False)
    write_png(figure, path)


def _axes(axes: Axes, label: str, sizes: tuple[int, ...]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", alpha=0.3)


if __name__ == "__main__":
    main()
