"""How long does CTC take, forward and backward from the logits, beside the alternatives?

The alternatives are TensorFlow's own losses and PyTorch's, on the same logits and tokens; all
must come to the same loss. Each round times all of them in turn, PyTorch in a process of its
own, and a ratio is the median of the rounds' ratios: a change of the machine's speed meets all
alike. PyTorch has an environment of its own in `--peers`, made when it is missing; where that
cannot be, the table leaves PyTorch out. `python -m benchmarks.ctc [--json]`
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.peers import TORCH
from tfasr.configs.seeds import counted_generator
from tfasr.losses.ctc import ctc_loss

BETTER = {
    "speedup_vs_sparse_1k": "higher",
    "speedup_vs_sparse_5k": "higher",
    "vs_torch_1k": "higher",
    "vs_torch_5k": "higher",
}

_ROUNDS = 15
_AGREEMENT = 1e-4  # Relative, of the losses' sums.
_OURS, _DENSE, _SPARSE, _KERNEL, _PEER = "ours", "dense", "sparse", "kernel", "pytorch"
_LEGEND = {
    _OURS: "tfasr.losses.ctc.ctc_loss",
    _DENSE: "tf.nn.ctc_loss, dense labels",
    _SPARSE: "tf.nn.ctc_loss, sparse labels",
    _KERNEL: "tf.compat.v1.nn.ctc_loss, the same kernel without a shift of the blank",
    _PEER: f"torch.nn.functional.ctc_loss, {TORCH.packages[0]}",
}

# Answers each line, the number of a case, with the seconds of a step and the loss.
_PEER_PROGRAM = """
import json, sys, time
import torch
cases = []
for case in json.loads(sys.argv[1]):
    batch, frames, tokens, classes = (case[k] for k in ("batch", "frames", "tokens", "classes"))
    raw = bytearray(open(case["logits"], "rb").read())
    logits = torch.frombuffer(raw, dtype=torch.float32).reshape(batch, frames, classes)
    raw = bytearray(open(case["labels"], "rb").read())
    labels = torch.frombuffer(raw, dtype=torch.int32).reshape(batch, tokens).long()
    lengths = torch.full((batch,), frames), torch.full((batch,), tokens)
    cases.append((logits.requires_grad_(), labels, *lengths))
print("ready", flush=True)
for line in sys.stdin:
    logits, labels, frames, tokens = cases[int(line)]
    logits.grad = None
    started = time.perf_counter()
    scores = logits.log_softmax(-1).transpose(0, 1)
    loss = torch.nn.functional.ctc_loss(
        scores, labels, frames, tokens, blank=logits.shape[-1] - 1, reduction="sum"
    )
    loss.backward()
    print(time.perf_counter() - started, loss.item(), flush=True)
"""

Step = Callable[[], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of a batch; all of its utterances are as long as it is."""

    batch: int
    frames: int
    tokens: int
    vocabulary: int

    def logits(self) -> NDArray[np.float32]:
        generator = counted_generator(0, "benchmarks.ctc", "logits", *asdict(self).values())
        shape = [self.batch, self.frames, self.vocabulary + 1]
        return 2 * generator.standard_normal(shape, np.float32)

    def labels(self) -> NDArray[np.int32]:
        generator = counted_generator(0, "benchmarks.ctc", "labels", *asdict(self).values())
        return generator.integers(0, self.vocabulary, [self.batch, self.tokens], np.int32)


_CASES = (
    Case(batch=8, frames=250, tokens=40, vocabulary=1024),
    Case(batch=8, frames=250, tokens=40, vocabulary=5000),
    Case(batch=16, frames=64, tokens=12, vocabulary=32),
)


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=Path("work/peers"), help="environments")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    steps = {(case, name): _step(case, loss) for case in _CASES for name, loss in _LOSSES.items()}
    with _peer_steps(arguments.peers) as peer_steps:
        steps.update(peer_steps)
        seconds = _measure(steps, arguments.rounds)
    for name, meaning in _LEGEND.items():
        print(f"{name:9}{meaning if (_CASES[0], name) in steps else 'not installed'}")
    print("\nbatch frames tokens classes   loss        median ms   times ours")
    for (case, name), taken in seconds.items():
        print(
            f"{case.batch:5d} {case.frames:6d} {case.tokens:6d} {case.vocabulary + 1:7d}   "
            f"{name:9}{1000 * median(taken):12.1f} {_times_ours(seconds, case, name):12.2f}"
        )
    if arguments.json:
        print(json.dumps(_figures(seconds)))


def _figures(seconds: dict[tuple[Case, str], list[float]]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for key, name in (("speedup_vs_sparse", _KERNEL), ("vs_torch", _PEER)):
        for size, case in (("1k", _CASES[0]), ("5k", _CASES[1])):
            known = (case, name) in seconds
            figures[f"{key}_{size}"] = _times_ours(seconds, case, name) if known else None
    return figures


def _times_ours(seconds: dict[tuple[Case, str], list[float]], case: Case, name: str) -> float:
    pairs = zip(seconds[case, name], seconds[case, _OURS], strict=True)
    return median(theirs / ours for theirs, ours in pairs)


def _measure(
    steps: dict[tuple[Case, str], Step], rounds: int
) -> dict[tuple[Case, str], list[float]]:
    """Seconds of each step by round, by case; raises where the losses differ."""
    keys = sorted(steps, key=lambda key: _CASES.index(key[0]))
    for case, name in keys:
        _, loss = steps[case, name]()
        _, ours = steps[case, _OURS]()
        if not np.isclose(loss, ours, rtol=_AGREEMENT):
            raise RuntimeError(f"losses must agree; got {name}={loss}, ours={ours} for {case}")
    taken: dict[tuple[Case, str], list[float]] = {key: [] for key in keys}
    for _ in range(rounds):
        for key in keys:
            taken[key].append(steps[key]()[0])
    return taken


def _step(case: Case, loss: Callable[..., tf.Tensor]) -> Step:
    logits, labels = tf.constant(case.logits()), tf.constant(case.labels())
    num_frames = tf.fill([case.batch], case.frames)
    num_tokens = tf.fill([case.batch], case.tokens)

    def loss_and_gradient(
        logits: tf.Tensor, num_frames: tf.Tensor, labels: tf.Tensor, num_tokens: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.reduce_sum(loss(logits, num_frames, labels, num_tokens))
        return total, tape.gradient(total, logits)

    graph = tf.function(loss_and_gradient, autograph=False)

    def step() -> tuple[float, float]:
        started = time.perf_counter()
        total, _ = graph(logits, num_frames, labels, num_tokens)
        value = float(total)
        return time.perf_counter() - started, value

    return step


def _dense(
    logits: tf.Tensor, num_frames: tf.Tensor, labels: tf.Tensor, num_tokens: tf.Tensor
) -> tf.Tensor:
    return tf.nn.ctc_loss(
        labels, logits, num_tokens, num_frames, logits_time_major=False, blank_index=-1
    )


def _sparse(
    logits: tf.Tensor, num_frames: tf.Tensor, labels: tf.Tensor, num_tokens: tf.Tensor
) -> tf.Tensor:
    labels = _sparse_labels(labels, num_tokens)
    return tf.nn.ctc_loss(labels, logits, None, num_frames, logits_time_major=False, blank_index=-1)


def _kernel(
    logits: tf.Tensor, num_frames: tf.Tensor, labels: tf.Tensor, num_tokens: tf.Tensor
) -> tf.Tensor:
    labels = _sparse_labels(labels, num_tokens)
    return tf.compat.v1.nn.ctc_loss(labels, logits, num_frames, time_major=False)


def _sparse_labels(labels: tf.Tensor, num_tokens: tf.Tensor) -> tf.SparseTensor:
    inside = tf.sequence_mask(num_tokens, tf.shape(labels)[1])
    shape = tf.cast(tf.shape(labels), tf.int64)
    return tf.SparseTensor(tf.where(inside), tf.boolean_mask(labels, inside), shape)


_LOSSES = {_OURS: ctc_loss, _DENSE: _dense, _SPARSE: _sparse, _KERNEL: _kernel}


@contextmanager
def _peer_steps(peers: Path) -> Iterator[dict[tuple[Case, str], Step]]:
    """Steps that PyTorch takes in its process; none where it is not to be had."""
    python = TORCH.python(peers)
    if python is None:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for number, case in enumerate(_CASES):
            files = {name: f"{folder}/{number}.{name}" for name in ("logits", "labels")}
            case.logits().tofile(files["logits"])
            case.labels().tofile(files["labels"])
            rows.append({**asdict(case), "classes": case.vocabulary + 1, **files})
        with subprocess.Popen(
            [python, "-c", _PEER_PROGRAM, json.dumps(rows)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            _answer(process)
            yield {(case, _PEER): partial(_ask, process, n) for n, case in enumerate(_CASES)}


def _ask(process: Any, number: int) -> tuple[float, float]:
    print(number, file=process.stdin, flush=True)
    seconds, loss = _answer(process).split()
    return float(seconds), float(loss)


def _answer(process: Any) -> str:
    line: str = process.stdout.readline()
    if not line:
        raise RuntimeError("PyTorch's process must answer; it ended, and says why above")
    return line


if __name__ == "__main__":
    main()
