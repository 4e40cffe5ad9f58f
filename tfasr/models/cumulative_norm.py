"""Group normalisation by the past, for models that take streams."""

from typing import NamedTuple

import keras
import tensorflow as tf

from tfasr.models.normalization import MaskedGroupNorm, frames_or_all


class Statistics(NamedTuple):
    """What the frames so far have in common.

    Args:
        count: [B] float, how many there are.
        mean: [B, G] float.
        variance: [B, G] float, 0 where there is no frame.
    """

    count: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor


@keras.saving.register_keras_serializable(package="tfasr")
class CumulativeGroupNorm(MaskedGroupNorm):
    """Group normalisation of each frame by itself and the real frames before it.

    Args:
        groups: Channel groups G; divides C.
        epsilon: Added to the variance.

    Call:
        x: [B, T, C] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        returns: [B, T, C], zero on padded frames.

    Raises:
        ValueError: `groups` does not divide C.

    Source: Wu & He (2018), "Group Normalization", eq. 1-7, with sums over the past; Luo &
        Mesgarani (2019), "Conv-TasNet", section II.E, eq. 15-17.
    """

    def start(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state before a stream."""
        nothing = tf.zeros([batch, self.groups])
        return {"mean": nothing, "variance": nothing}

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        # An hour's sums: float32 would lose what a frame adds to them.
        nothing = tf.zeros([tf.shape(x)[0], self.groups], tf.float64)
        before = Statistics(nothing[:, 0], nothing, nothing)
        return self._normalised(x, frames_or_all(mask, x), before)[0]

    def step(
        self, x: tf.Tensor, mask: tf.Tensor, heard: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Normalises a chunk.

        Args:
            x: [B, T, C] float.
            mask: [B, T] bool, True on real frames.
            heard: [B] float32, frames before the chunk.
            state: "mean" and "variance" [B, G] of those frames.

        Returns:
            [B, T, C], zero on padded frames, and the state after the chunk.
        """
        before = Statistics(heard, state["mean"], state["variance"])
        y, mean, variance = self._normalised(x, mask, before)
        return y, {"mean": mean[:, -1], "variance": variance[:, -1]}

    def _normalised(
        self, x: tf.Tensor, mask: tf.Tensor, before: Statistics
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns [B, T, C], and the mean and variance that each frame was given."""
        channels = x.shape[-1]
        shape = [tf.shape(x)[0], tf.shape(x)[1], self.groups, channels // self.groups]
        wide = tf.reshape(tf.cast(x, tf.float32), shape)  # [B, T, G, C/G]
        dtype = before.mean.dtype
        mean, variance = (tf.cast(moment, dtype) for moment in tf.nn.moments(wide, [3]))
        mean, variance = cumulative_moments(mean, variance, mask, before)  # [B, T, G]
        scale = tf.math.rsqrt(tf.cast(variance, tf.float32) + self.epsilon)
        y = (wide - tf.cast(mean, tf.float32)[..., None]) * scale[..., None]
        y = tf.reshape(y, [shape[0], shape[1], channels])
        y = y * tf.cast(self.gamma, tf.float32) + tf.cast(self.beta, tf.float32)
        return tf.cast(tf.where(mask[:, :, None], y, 0.0), x.dtype), mean, variance


def cumulative_moments(
    mean: tf.Tensor, variance: tf.Tensor, mask: tf.Tensor, before: Statistics
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pools each frame's moments with those of all real frames before it.

    Sums are of what sets a frame apart from those before the first, so neither a mean far from
    zero nor a long past costs precision; and where a count grows too large for one more frame
    to change it, the moments still follow, as a moving average.

    Args:
        mean: [B, T, G] float, of each frame.
        variance: [B, T, G], within each frame.
        mask: [B, T] bool, True on real frames.
        before: Of the frames before the first.

    Returns:
        Mean and variance [B, T, G].

    Source: Chan et al. (1983), "Algorithms for Computing the Sample Variance", eq. 2.1.
    """
    real = tf.cast(mask, mean.dtype)[:, :, None]  # [B, T, 1]
    count, mean_before, variance_before = (
        before.count[:, None, None],
        before.mean[:, None],
        before.variance[:, None],
    )
    centre = tf.where(count > 0, mean_before, mean[:, :1])  # [B, 1, G]
    total = tf.maximum(count + tf.cumsum(real, 1), 1.0)  # [B, T, 1]
    away = mean - centre
    moved = tf.cumsum(away * real, 1) / total
    grown = tf.cumsum((variance + away * away - variance_before) * real, 1) / total
    return centre + moved, tf.maximum(variance_before + grown - moved * moved, 0.0)
