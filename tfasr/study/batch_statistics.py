"""Statistics of batch normalisation, made anew after a reset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.layout import Entry

Encoding = tuple[tf.Tensor, tf.Tensor]


def is_statistic(entry: Entry) -> bool:
    """Whether a variable is a moving average of batch normalisation."""
    return entry.role.endswith(("moving_mean", "moving_variance"))


def require_statistics(entries: Sequence[Entry]) -> None:
    """Refuses a model with batch normalisation that never saw a batch.

    Raises:
        ValueError: All moving averages are as they were at the start.
    """
    averages = [entry for entry in entries if is_statistic(entry)]
    untouched = [
        np.array_equal(
            entry.variable.numpy(), np.full(entry.shape, float(entry.role.endswith("variance")))
        )
        for entry in averages
    ]
    if averages and all(untouched):
        raise ValueError(
            "the model's batch normalisation has no statistics, all its moving averages are as "
            "at the start: nothing that is measured on it holds; train it first"
        )


class BatchStatistics:
    """Estimates the moving averages of a model over given utterances.

    After a reset, a block's activations have other means and variances than those that batch
    normalisation has recorded. Keeping the record measures the damage as a user would meet it;
    making it anew tells the damage of the weights from that of the stale record.

    Args:
        model: With `conv_norm=batch` and no dropout, for the statistics are those of its
            training mode. The momentum of its batch normalisation is set to 0.

    Raises:
        ValueError: The model has no batch normalisation, or has dropout.
    """

    def __init__(self, model: AcousticModel) -> None:
        self.model = model
        self.norms = [_norm(block) for block in model.blocks]
        for norm in self.norms:
            # One batch's statistics are read after its call, and pooled by numbers of frames.
            norm.momentum = 0.0
        self._training = [self._function(index, seeded=True) for index in range(len(self.norms))]
        self._inference = [self._function(index, seeded=False) for index in range(len(self.norms))]

    def _function(self, index: int, seeded: bool) -> Any:
        block = self.model.blocks[index]

        def run(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            seed = tf.zeros([2], tf.int32) if seeded else None
            return block(x, mask=mask, seed=seed, **self.model.visible(index, tf.shape(x)[1]))

        return tf.function(run, autograph=False, reduce_retracing=True)

    def estimate(self, lowest: int, encodings: Sequence[Encoding]) -> None:
        """Assigns the statistics of all blocks from one on.

        Each block hears what the blocks below it give by their new statistics.

        Args:
            lowest: Index of that block.
            encodings: What it takes in: [B, T, D] and mask [B, T] of each batch.
        """
        for index in range(lowest, len(self.norms)):
            norm = self.norms[index]
            moments = []
            for x, mask in encodings:
                self._training[index](x, mask)
                frames = float(tf.reduce_sum(tf.cast(mask, tf.float32)))
                moments.append((frames, norm.moving_mean.numpy(), norm.moving_variance.numpy()))
            mean, variance = pool_moments(moments)
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)
            encodings = [(self._inference[index](x, mask), mask) for x, mask in encodings]


def pool_moments(
    moments: Sequence[tuple[float, np.ndarray[Any, Any], np.ndarray[Any, Any]]],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pools numbers of frames, means [C] and variances [C] of batches into those of all."""
    counts, means, variances = (
        np.array(column, np.float64) for column in zip(*moments, strict=True)
    )
    shares = (counts / counts.sum())[:, None]
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean) ** 2)).sum(0)


def _norm(block: Any) -> Any:
    convolution = getattr(block, "convolution", None)
    norm = getattr(convolution, "depthwise_norm", None)
    if not hasattr(norm, "moving_mean"):
        raise ValueError("statistics=reestimated needs a Conformer with conv_norm=batch")
    if block_dropout := getattr(convolution, "dropout", 0.0):
        raise ValueError(f"statistics need a model without dropout; got dropout={block_dropout}")
    return norm
