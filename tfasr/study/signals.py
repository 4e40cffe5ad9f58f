"""Cheap signals that may tell which blocks matter without an evaluation for each."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.objective import JointObjective
from tfasr.data.batches import MODEL_INPUTS
from tfasr.losses.objective import model_losses
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.churn import measure_churn
from tfasr.models.frame_stacking import stacked
from tfasr.models.initialization import initialize
from tfasr.models.layout import Entry, Layout

# The draw that `loss` gives a block: the first fresh one of a study.
_DRAW = 1

Batch = dict[str, tf.Tensor]
Values = NDArray[np.float64]
Given = ParamSpec("Given")


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What one signal says of each of L blocks.

    Args:
        name: As in `SIGNALS`.
        values: [L] float64; the larger, the more critical the block.
        seconds: What it took, in seconds: reading the batches and tracing graphs too.
    """

    name: str
    values: Values
    seconds: float


class Measure(Protocol):
    """Measures a signal of all blocks.

    Each takes all of these, and some leave some unread.

    Args:
        model: The trained model; its weights are as before after the call.
        layout: Of the model.
        run_seed: The seed that its first weights came from.
        batches: As `evaluation_batches` makes them.
        objective: What the loss is made of.

    Returns:
        The signal.

    Raises:
        ValueError: The signal reads batches, and there is none.
    """

    def __call__(
        self,
        model: AcousticModel,
        layout: Layout,
        run_seed: int,
        batches: Iterable[Batch],
        objective: JointObjective,
    ) -> Signal: ...


def _timed(values_of: Callable[Given, Values]) -> Callable[Given, Signal]:
    """Turns a function that gives values into one that gives the signal of its name."""

    @wraps(values_of)
    def measure(*args: Given.args, **kwargs: Given.kwargs) -> Signal:
        started = time.monotonic()
        values = values_of(*args, **kwargs)
        seconds = time.monotonic() - started
        return Signal(name=values_of.__name__, values=values, seconds=seconds)

    return measure


@_timed
def churn(
    model: AcousticModel,
    layout: Layout,
    run_seed: int,
    batches: Iterable[Batch],
    objective: JointObjective,
) -> Values:
    """|W(t) - W(0)|_F over all kernels of a block; see `Measure`."""
    return _churn_norms(layout, run_seed)[0]


@_timed
def relative_churn(
    model: AcousticModel,
    layout: Layout,
    run_seed: int,
    batches: Iterable[Batch],
    objective: JointObjective,
) -> Values:
    """|W(t) - W(0)|_F / |W(0)|_F over all kernels of a block; see `Measure`."""
    moved, first = _churn_norms(layout, run_seed)
    return moved / first


def _churn_norms(layout: Layout, run_seed: int) -> tuple[Values, Values]:
    """|W(t) - W(0)|_F and |W(0)|_F of whole blocks, [L] each."""
    # Norms do not depend on the step, which only labels them.
    modules = measure_churn(layout, run_seed, step=0)
    return np.linalg.norm(modules.moved, axis=0), np.linalg.norm(modules.first, axis=0)


@_timed
def gradient(
    model: AcousticModel,
    layout: Layout,
    run_seed: int,
    batches: Iterable[Batch],
    objective: JointObjective,
) -> Values:
    """Norm of a block's gradient of the mean loss over all utterances; see `Measure`.

    Without dropout. Holds the sum of the gradients of all blocks, in float64.
    """
    entries = _trainable_in_blocks(layout)
    gradients_of = _gradients_of(model, entries, objective)
    sums = [np.zeros(entry.shape) for entry in entries]
    utterances = 0
    for batch in _inputs_of(batches):
        size = len(batch["num_frames"])
        utterances += size
        for total, part in zip(sums, gradients_of(batch), strict=True):
            total += size * part.numpy()
    return np.sqrt(_squared_norms(entries, sums, layout.num_blocks)) / utterances


@_timed
def fisher(
    model: AcousticModel,
    layout: Layout,
    run_seed: int,
    batches: Iterable[Batch],
    objective: JointObjective,
) -> Values:
    """Mean over batches of the squared norm of a block's gradient; see `Measure`.

    Approximates the trace of a block's empirical Fisher information, which is the mean squared
    norm over utterances. With B alike in a batch, and a mean gradient g over all utterances, what
    is measured is (trace + (B - 1) |g|^2) / B on average: near an optimum, where g vanishes, in
    proportion to the trace. The smaller the batches, the nearer it comes. The labels are those
    of the utterances, not draws from the model as in the true Fisher information.

    Source: Kunstner, Balles & Hennig (2019), "Limitations of the empirical Fisher approximation
        for natural gradient descent", section 1.
    """
    entries = _trainable_in_blocks(layout)
    gradients_of = _gradients_of(model, entries, objective)
    squares = [
        _squared_norms(entries, [part.numpy() for part in gradients_of(batch)], layout.num_blocks)
        for batch in _inputs_of(batches)
    ]
    return np.mean(squares, axis=0)  # type: ignore[no-any-return]


def _trainable_in_blocks(layout: Layout) -> list[Entry]:
    return [entry for entry in layout.trainable if entry.block is not None]


def _gradients_of(
    model: AcousticModel, entries: Sequence[Entry], objective: JointObjective
) -> Callable[[Batch], list[tf.Tensor]]:
    """Makes the function from a batch to its mean loss's gradients, in the order of `entries`."""

    @tf.function(input_signature=[_signature(model)], autograph=False)
    def gradients(batch: Batch) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            mean = tf.reduce_mean(model_losses(model, batch, objective).losses)
        variables = [entry.variable for entry in entries]
        return tape.gradient(mean, variables)  # type: ignore[no-any-return]

    return gradients  # type: ignore[no-any-return]


def _squared_norms(
    entries: Sequence[Entry], tensors: Sequence[NDArray[np.floating[Any]]], num_blocks: int
) -> Values:
    """Squared norms of what belongs to `entries`, summed by block, [L]."""
    squares = np.zeros(num_blocks)
    for entry, tensor in zip(entries, tensors, strict=True):
        squares[entry.block] += np.square(tensor, dtype=np.float64).sum()
    return squares


@_timed
def cosine(
    model: AcousticModel,
    layout: Layout,
    run_seed: int,
    batches: Iterable[Batch],
    objective: JointObjective,
) -> Values:
    """1 - the mean cosine between what a block is given and gives; see `Measure`.

    The mean is over all real frames that the block gives. One that makes one frame of several
    is compared with their sum, whose direction is their mean's. Where it projects them, as one
    that stacks frames does, it is no more like them than chance has it: its value is about 1
    and says little of how critical it is.
    """
    cosines_of = _cosines_of(model)
    sums = np.zeros([layout.num_blocks, 2])
    for batch in _inputs_of(batches):
        sums += cosines_of(batch["features"], batch["num_frames"]).numpy()
    return np.asarray(1.0 - sums[:, 0] / sums[:, 1])


def _cosines_of(model: AcousticModel) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes the function to each block's sum of cosines and real frames, [L, 2]."""
    inputs = _signature(model)

    @tf.function(input_signature=[inputs["features"], inputs["num_frames"]], autograph=False)
    def cosines(features: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        x, mask = model.subsample(features, num_frames)
        rows = []
        for index, block in enumerate(model.blocks):
            given = tf.math.l2_normalize(_summed(x, mask, block.stride), -1)
            y = block(x, mask=mask, **model.visible(index, tf.shape(x)[1]))
            x, mask = y, block.compute_mask(x, mask)
            alike = tf.reduce_sum(given * tf.math.l2_normalize(x, -1), -1)  # [B, T']
            real = tf.cast(mask, alike.dtype)
            rows.append([tf.reduce_sum(alike * real), tf.reduce_sum(real)])
        return tf.convert_to_tensor(rows)

    return cosines  # type: ignore[no-any-return]


def _summed(x: tf.Tensor, mask: tf.Tensor, stride: int) -> tf.Tensor:
    """Sums the real frames of each `stride` neighbours, from [B, T, D] to [B, T', D]."""
    wide = stacked(x, mask, stride)  # [B, T', s D]
    parts = tf.reshape(wide, [*tf.unstack(tf.shape(wide)[:2]), stride, x.shape[-1]])
    return tf.reduce_sum(parts, 2)


@_timed
def loss(
    model: AcousticModel,
    layout: Layout,
    run_seed: int,
    batches: Iterable[Batch],
    objective: JointObjective,
) -> Values:
    """Rise of the mean loss of the first batch with a block's weights drawn anew; see `Measure`.

    Moving averages of batch normalisation stay as they are.
    """
    batch = next(_inputs_of(batches))

    @tf.function(input_signature=[_signature(model)], autograph=False)
    def mean_loss(batch: Batch) -> tf.Tensor:
        return tf.reduce_mean(model_losses(model, batch, objective).losses)

    intact = float(mean_loss(batch))
    rises = []
    entries = _trainable_in_blocks(layout)
    for block in range(layout.num_blocks):
        with _redrawn([entry for entry in entries if entry.block == block], run_seed):
            rises.append(float(mean_loss(batch)) - intact)
    return np.array(rises)


@contextmanager
def _redrawn(entries: Sequence[Entry], run_seed: int) -> Iterator[None]:
    """Gives variables fresh weights, and their own back at the end."""
    trained = [entry.variable.numpy() for entry in entries]
    try:
        initialize(entries, run_seed, _DRAW)
        yield
    finally:
        for entry, value in zip(entries, trained, strict=True):
            entry.variable.assign(value)


def _inputs_of(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields what losses read of each batch."""
    empty = True
    for batch in batches:
        empty = False
        yield {name: batch[name] for name in MODEL_INPUTS}
    if empty:
        raise ValueError("a signal must have a batch to be measured on; got none")


def _signature(model: AcousticModel) -> dict[str, tf.TensorSpec]:
    return {
        "features": tf.TensorSpec([None, None, model.num_mels], tf.float32),
        "num_frames": tf.TensorSpec([None], tf.int32),
        "tokens": tf.TensorSpec([None, None], tf.int32),
        "num_tokens": tf.TensorSpec([None], tf.int32),
    }


SIGNALS: Mapping[str, Measure] = {
    measure.__name__: measure for measure in (churn, relative_churn, gradient, fisher, cosine, loss)
}
