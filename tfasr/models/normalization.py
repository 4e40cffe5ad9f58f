"""Normalisation over frames that leaves padding out."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.fusion import Chain, Tensors, is_inferring, joins_layer_norms


def frames_or_all(mask: tf.Tensor | None, x: tf.Tensor) -> tf.Tensor:
    """Returns `mask`, or [B, T] of True for `x` [B, T, C] where it is None."""
    return tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else mask


@keras.saving.register_keras_serializable(package="tfasr")
class LayerNorm(keras.layers.LayerNormalization):
    """Layer normalisation over the channels.

    Keras's own takes 25 operations, and as many passes over memory, for its gradient.

    Args:
        epsilon: Added to the variance.

    Call:
        x: [..., C] float.
        returns: Like `x`.

    Source: Ba et al. (2016), "Layer Normalization", eq. 3.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if joins_layer_norms():
            return _inferred_layer_norm(x, self.gamma, self.beta, self.epsilon)
        if is_inferring():
            return _layer_norm(x, self.gamma, self.beta, self.epsilon)[0]
        return _LAYER_NORM(x, self.gamma, self.beta, epsilon=self.epsilon)


def _inferred_layer_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """As the graph optimiser knows oneDNN's layer norm: frames are the channels of an image.

    Where it is not joined, two calls at once corrupt memory: oneDNN's batch norm keeps what it is
    doing in the operation.
    """
    frames = tf.reduce_prod(tf.shape(x)[:-1])
    image = tf.reshape(tf.cast(x, tf.float32), [1, frames, x.shape[-1], 1])
    # That of `tf.nn` has no epsilon under 1.001e-5.
    normal = tf.raw_ops.FusedBatchNormV3(
        x=image,
        scale=tf.ones([frames]),
        offset=tf.zeros([frames]),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        data_format="NCHW",
        is_training=True,
    )
    y = tf.reshape(normal.y, tf.shape(x)) * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32)
    return tf.cast(y, x.dtype)


def _layer_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, Tensors]:
    wide = tf.cast(x, tf.float32)
    mean = tf.reduce_mean(wide, -1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), -1, keepdims=True)
    scale = tf.math.rsqrt(variance + epsilon)
    y = (wide - mean) * scale * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32)
    return tf.cast(y, x.dtype), (mean, scale)


def _layer_norm_gradient(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mean: tf.Tensor,
    scale: tf.Tensor,
    upstream: tf.Tensor,
    epsilon: float,
) -> tuple[tf.Tensor, ...]:
    normal = (tf.cast(x, tf.float32) - mean) * scale
    upstream = tf.cast(upstream, tf.float32)
    of_normal = upstream * tf.cast(gamma, tf.float32)
    common = tf.reduce_mean(of_normal, -1, keepdims=True)
    along = tf.reduce_mean(of_normal * normal, -1, keepdims=True)
    of_x = scale * (of_normal - common - normal * along)
    frames = list(range(x.shape.rank - 1))
    of_gamma = tf.reduce_sum(upstream * normal, frames)
    of_beta = tf.reduce_sum(upstream, frames)
    return tf.cast(of_x, x.dtype), tf.cast(of_gamma, gamma.dtype), tf.cast(of_beta, beta.dtype)


_LAYER_NORM = Chain(_layer_norm, _layer_norm_gradient)


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
        mask = frames_or_all(mask, x)
        if is_inferring():
            return _inferred_group_norm(x, mask, self)
        settings = {"groups": self.groups, "epsilon": self.epsilon}
        return _GROUP_NORM(x, mask, self.gamma, self.beta, **settings)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


def _inferred_group_norm(x: tf.Tensor, mask: tf.Tensor, norm: MaskedGroupNorm) -> tf.Tensor:
    """With sums over frames as products, and few passes."""
    real = tf.cast(mask, tf.float32)[:, :, None]  # [B, T, 1]
    wide = tf.cast(x, tf.float32)
    mean = _group_mean(tf.matmul(real, wide, transpose_a=True), real, norm.groups)
    centred = wide - mean
    sums = tf.matmul(real, tf.square(centred), transpose_a=True)  # [B, 1, C]
    scale = tf.math.rsqrt(_group_mean(sums, real, norm.groups) + norm.epsilon)
    y = centred * (scale * tf.cast(norm.gamma, tf.float32)) + tf.cast(norm.beta, tf.float32)
    return tf.cast(y * real, x.dtype)


def _group_norm(
    x: tf.Tensor,
    mask: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    groups: int,
    epsilon: float,
) -> tuple[tf.Tensor, Tensors]:
    real = tf.cast(mask, tf.float32)[:, :, None]  # [B, T, 1]
    wide = tf.cast(x, tf.float32)
    mean = _group_mean(_sums(wide * real), real, groups)  # [B, 1, C]
    centred = (wide - mean) * real
    variance = _group_mean(_sums(centred * centred), real, groups)
    scale = tf.math.rsqrt(variance + epsilon)
    y = centred * scale * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32) * real
    return tf.cast(y, x.dtype), (mean, scale)


def _group_norm_gradient(
    *given_and_computed: tf.Tensor, groups: int, epsilon: float
) -> tuple[tf.Tensor | None, ...]:
    x, mask, gamma, beta, mean, scale, upstream = given_and_computed
    real = tf.cast(mask, tf.float32)[:, :, None]
    normal = (tf.cast(x, tf.float32) - mean) * scale * real
    upstream = tf.cast(upstream, tf.float32) * real
    of_normal = upstream * tf.cast(gamma, tf.float32)
    common = _group_mean(_sums(of_normal), real, groups)
    along = _group_mean(_sums(of_normal * normal), real, groups)
    of_x = scale * real * (of_normal - common - normal * along)
    of_gamma = tf.reduce_sum(upstream * normal, [0, 1])
    of_beta = tf.reduce_sum(upstream, [0, 1])
    of_weights = tf.cast(of_gamma, gamma.dtype), tf.cast(of_beta, beta.dtype)
    return tf.cast(of_x, x.dtype), None, *of_weights


def _sums(x: tf.Tensor) -> tf.Tensor:
    """Over frames: [B, T, C] to [B, 1, C]."""
    return tf.reduce_sum(x, 1, keepdims=True)


def _group_mean(sums: tf.Tensor, real: tf.Tensor, groups: int) -> tf.Tensor:
    """From sums over the real frames to means over them and a group's channels: [B, 1, C]."""
    width = sums.shape[-1] // groups
    count = tf.maximum(tf.reduce_sum(real, 1) * width, 1.0)  # [B, 1]
    means = tf.reduce_sum(tf.reshape(sums, [-1, groups, width]), 2) / count  # [B, G]
    # `tf.repeat` takes twenty operations.
    return tf.reshape(tf.tile(means[:, :, None], [1, 1, width]), [-1, 1, groups * width])


_GROUP_NORM = Chain(_group_norm, _group_norm_gradient)


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


@keras.saving.register_keras_serializable(package="tfasr")
class FrameNorm(LayerNorm):
    """Layer norm of each frame alone, called as the normalisations over frames are.

    Args:
        epsilon: Added to the variance.

    Call:
        x: [B, T, C] float.
        mask: [B, T] bool; there is no use for it.
        returns: [B, T, C].
    """

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        return super().call(x)
