"""Cheap signals that may tell which blocks matter without an evaluation for each."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NamedTuple

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


class Given(NamedTuple):
    """What a signal is measured with; some leave some of it unread.

    Args:
        model: The trained model; its weights are as before after every measurement.
        layout: Of the model.
        run_seed: The seed that its first weights came from.
        batches: As `evaluation_batches` makes them.
        objective: What the loss is made of.
    """

    model: AcousticModel
    layout: Layout
    run_seed: int
    batches: Iterable[Batch]
    objective: JointObjective


# Raises a ValueError where the signal reads batches and there is none.
Measure = Callable[[Given], Signal]


def _timed(values_of: Callable[[Given], Values]) -> Measure:
    """Turns a function that gives values into one that gives the signal of its name."""

    @wraps(values_of)
    def measure(given: Given) -> Signal:
        started = time.monotonic()
        values = values_of(given)
        seconds = time.monotonic() - started
        return Signal(name=values_of.__name__, values=values, seconds=seconds)

    return measure


@_timed
def churn(given: Given) -> Values:
    """|W(t) - W(0)|_F over all kernels of a block."""
    return _churn_norms(given.layout, given.run_seed)[0]


@_timed
def relative_churn(given: Given) -> Values:
    """|W(t) - W(0)|_F / |W(0)|_F over all kernels of a block."""
    moved, first = _churn_norms(given.layout, given.run_seed)
    return moved / first


def _churn_norms(layout: Layout, run_seed: int) -> tuple[Values, Values]:
    """|W(t) - W(0)|_F and |W(0)|_F of whole blocks, [L] each."""
    # Norms do not depend on the step, which only labels them.
    modules = measure_churn(layout, run_seed, step=0)
    return np.linalg.norm(modules.moved, axis=0), np.linalg.norm(modules.first, axis=0)


@_timed
def gradient(given: Given) -> Values:
    """Norm of a block's gradient of the mean loss over all utterances.

    Without dropout. Holds the sum of the gradients of all blocks, in float64.
    """
    entries, num_blocks = _trainable_in_blocks(given.layout), given.layout.num_blocks
    gradients_of = _gradients_of(given, entries)
    sums = [np.zeros(entry.shape) for entry in entries]
    utterances = 0
    for batch in _inputs_of(given.batches):
        size = len(batch["num_frames"])
        utterances += size
        for total, part in zip(sums, gradients_of(batch), strict=True):
            total += size * part.numpy()
    return np.sqrt(_squared_norms(entries, sums, num_blocks)) / utterances


@_timed
def fisher(given: Given) -> Values:
    """Mean over batches of the squared norm of a block's gradient.

    Approximates the trace of a block's empirical Fisher information, which is the mean squared
    norm over utterances. With B alike in a batch, and a mean gradient g over all utterances, what
    is measured is (trace + (B - 1) |g|^2) / B on average: near an optimum, where g vanishes, in
    proportion to the trace. The smaller the batches, the nearer it comes. The labels are those
    of the utterances, not draws from the model as in the true Fisher information.

    Source: Kunstner, Balles & Hennig (2019), "Limitations of the empirical Fisher approximation
        for natural gradient descent", section 1.
    """
    entries, num_blocks = _trainable_in_blocks(given.layout), given.layout.num_blocks
    gradients_of = _gradients_of(given, entries)
    squares = [
        _squared_norms(entries, [part.numpy() for part in gradients_of(batch)], num_blocks)
        for batch in _inputs_of(given.batches)
    ]
    return np.asarray(np.mean(squares, axis=0))


def _trainable_in_blocks(layout: Layout) -> list[Entry]:
    return [entry for entry in layout.trainable if entry.block is not None]


def _gradients_of(given: Given, entries: Sequence[Entry]) -> Callable[[Batch], Sequence[tf.Tensor]]:
    """Makes the function from a batch to its mean loss's gradients, in the order of `entries`."""
    variables = [entry.variable for entry in entries]

    def gradients(batch: Batch) -> Any:
        with tf.GradientTape() as tape:
            mean = _mean_loss(given, batch)
        return tape.gradient(mean, variables)

    graph: Callable[[Batch], Sequence[tf.Tensor]] = _graph(given, gradients)
    return graph


def _mean_loss(given: Given, batch: Batch) -> tf.Tensor:
    return tf.reduce_mean(model_losses(given.model, batch, given.objective).losses)


def _graph(given: Given, of_batch: Callable[[Batch], Any]) -> Any:
    return tf.function(of_batch, [_signature(given.model)], autograph=False)


def _squared_norms(
    entries: Sequence[Entry], tensors: Sequence[NDArray[np.floating[Any]]], num_blocks: int
) -> Values:
    """Squared norms of what belongs to `entries`, summed by block, [L]."""
    squares = np.zeros(num_blocks)
    for entry, tensor in zip(entries, tensors, strict=True):
        squares[entry.block] += np.square(tensor, dtype=np.float64).sum()
    return squares


@_timed
def cosine(given: Given) -> Values:
    """1 - the mean cosine between what a block is given and gives.

    The mean is over all real frames that the block gives. One that makes one frame of several
    is compared with their sum, whose direction is their mean's. Where it projects them, as one
    that stacks frames does, it is no more like them than chance has it: its value is about 1
    and says little of how critical it is.
    """
    cosines_of = _cosines_of(given.model)
    sums = np.zeros([given.layout.num_blocks, 2])
    for batch in _inputs_of(given.batches):
        sums += cosines_of(batch["features"], batch["num_frames"]).numpy()
    return np.asarray(1.0 - sums[:, 0] / sums[:, 1])


def _cosines_of(model: AcousticModel) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes the function to each block's sum of cosines and real frames, [L, 2]."""

    def cosines(features: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        x, mask = model.subsample(features, num_frames)
        rows = []
        for index, block in enumerate(model.blocks):
            before = tf.math.l2_normalize(_summed(x, mask, block.stride), -1)
            y = block(x, mask=mask, **model.visible(index, tf.shape(x)[1]))
            x, mask = y, block.compute_mask(x, mask)
            alike = tf.reduce_sum(before * tf.math.l2_normalize(x, -1), -1)  # [B, T']
            real = tf.cast(mask, alike.dtype)
            rows.append([tf.reduce_sum(alike * real), tf.reduce_sum(real)])
        return tf.convert_to_tensor(rows)

    inputs = _signature(model)
    graph: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(
        cosines, [inputs["features"], inputs["num_frames"]], autograph=False
    )
    return graph


def _summed(x: tf.Tensor, mask: tf.Tensor, stride: int) -> tf.Tensor:
    """Sums the real frames of each `stride` neighbours, from [B, T, D] to [B, T', D]."""
    wide = stacked(x, mask, stride)  # [B, T', s D]
    parts = tf.reshape(wide, [*tf.unstack(tf.shape(wide)[:2]), stride, x.shape[-1]])
    return tf.reduce_sum(parts, 2)


@_timed
def loss(given: Given) -> Values:
    """Rise of the mean loss of the first batch with a block's weights drawn anew.

    Moving averages of batch normalisation stay as they are.
    """
    batch = next(_inputs_of(given.batches))
    mean_loss = _graph(given, partial(_mean_loss, given))
    intact = float(mean_loss(batch))
    rises = []
    entries = _trainable_in_blocks(given.layout)
    for block in range(given.layout.num_blocks):
        with _redrawn([entry for entry in entries if entry.block == block], given.run_seed):
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
