"""Normalisation over frames that leaves padding out."""

from typing import Any

import keras
import tensorflow as tf


def frames_or_all(mask: tf.Tensor | None, x: tf.Tensor) -> tf.Tensor:
    """Returns `mask`, or [B, T] of True for `x` [B, T, C] where it is None."""
    return tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else mask


@keras.saving.register_keras_serializable(package="tfasr")
class MaskedGroupNorm(keras.layers.Layer):
    """Group normalisation whose statistics leave out padded frames.

    `keras.layers.GroupNormalization` pools over all frames, so what an utterance is given
    depends on the longest one in its batch.

    Args:
        groups: Channel groups G; divides C.
        epsilon: Added to the variance.

    Call:
        x: [B, T, C] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        returns: [B, T, C], zero on padded frames.

    Raises:
        ValueError: `groups` does not divide C.

    Source: Wu & He (2018), "Group Normalization", eq. 1-7.
    """

    def __init__(self, groups: int, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"groups must divide C; got groups={self.groups}, C={channels}")
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")
        super().build(input_shape)

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        real = tf.cast(frames_or_all(mask, x), tf.float32)[:, :, None]  # [B, T, 1]
        wide = tf.cast(x, tf.float32) * real
        count = tf.reduce_sum(real, 1) * (x.shape[-1] // self.groups)  # [B, 1]
        count = tf.maximum(count, 1.0)
        mean = self._group_sum(wide) / count  # [B, G]
        centred = (wide - self._spread(mean)) * real
        variance = self._group_sum(centred * centred) / count  # [B, G]
        y = centred * self._spread(tf.math.rsqrt(variance + self.epsilon))
        y = y * tf.cast(self.gamma, tf.float32) + tf.cast(self.beta, tf.float32) * real
        return tf.cast(y, x.dtype)

    def _group_sum(self, x: tf.Tensor) -> tf.Tensor:
        sums = tf.reduce_sum(x, 1)  # [B, C]
        return tf.reduce_sum(tf.reshape(sums, [-1, self.groups, x.shape[-1] // self.groups]), 2)

    def _spread(self, per_group: tf.Tensor) -> tf.Tensor:
        channels = self.gamma.shape[0] // self.groups
        return tf.repeat(per_group, channels, axis=1)[:, None]  # [B, 1, C]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="tfasr")
class MaskedBatchNorm(keras.layers.Layer):
    """Batch normalisation whose statistics leave out padded frames.

    For central training only: its moving averages are no gradients, so federated averaging
    cannot carry them.

    Args:
        momentum: Of the moving averages.
        epsilon: Added to the variance.

    Call:
        x: [B, T, C] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        training: Use and record the batch's statistics instead of the moving averages.
        returns: [B, T, C], zero on padded frames.

    Source: Ioffe & Szegedy (2015), "Batch Normalization", algorithm 1.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = (input_shape[-1],)
        self.gamma = self._vector("gamma", shape, "ones", trainable=True)
        self.beta = self._vector("beta", shape, "zeros", trainable=True)
        self.moving_mean = self._vector("moving_mean", shape, "zeros", trainable=False)
        self.moving_variance = self._vector("moving_variance", shape, "ones", trainable=False)
        super().build(input_shape)

    def _vector(
        self, name: str, shape: tuple[int], initializer: str, trainable: bool
    ) -> tf.Variable:
        # Statistics in bfloat16 would not move by the small steps of a moving average.
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            experimental_autocast=False,
        )

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        real = tf.cast(frames_or_all(mask, x), tf.float32)[:, :, None]  # [B, T, 1]
        wide = tf.cast(x, tf.float32)
        mean, variance = self._statistics(wide, real, training)
        y = (wide - mean) * tf.math.rsqrt(variance + self.epsilon)
        y = (y * self.gamma + self.beta) * real
        return tf.cast(y, x.dtype)

    def _statistics(
        self, x: tf.Tensor, real: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not training:
            return self.moving_mean, self.moving_variance
        mean, variance = tf.nn.weighted_moments(x, [0, 1], real)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign_add((1 - self.momentum) * (now - moving))
        return mean, variance

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
