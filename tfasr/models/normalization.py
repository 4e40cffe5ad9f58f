"""Normalisation over frames that leaves padding out."""

from typing import Any, NamedTuple

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
    return tf.cast(y, x.dtype), (x, mean, scale, gamma)


def _layer_norm_gradient(
    x: tf.Tensor,
    mean: tf.Tensor,
    scale: tf.Tensor,
    gamma: tf.Tensor,
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
    return tf.cast(of_x, x.dtype), tf.cast(of_gamma, gamma.dtype), tf.cast(of_beta, gamma.dtype)


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
    return tf.cast(y, x.dtype), (x, real, mean, scale, gamma)


def _group_norm_gradient(
    *kept_and_upstream: tf.Tensor, groups: int, epsilon: float
) -> tuple[tf.Tensor | None, ...]:
    x, real, mean, scale, gamma, upstream = kept_and_upstream
    normal = (tf.cast(x, tf.float32) - mean) * scale * real
    upstream = tf.cast(upstream, tf.float32) * real
    of_normal = upstream * tf.cast(gamma, tf.float32)
    common = _group_mean(_sums(of_normal), real, groups)
    along = _group_mean(_sums(of_normal * normal), real, groups)
    of_x = scale * real * (of_normal - common - normal * along)
    of_gamma = tf.reduce_sum(upstream * normal, [0, 1])
    of_beta = tf.reduce_sum(upstream, [0, 1])
    of_weights = tf.cast(of_gamma, gamma.dtype), tf.cast(of_beta, gamma.dtype)
    return tf.cast(of_x, x.dtype), None, *of_weights


def _sums(x: tf.Tensor) -> tf.Tensor:
    """Over frames: [B, T, C] to [B, 1, C]."""
    return tf.reduce_sum(x, 1, keepdims=True)


def _group_mean(sums: tf.Tensor, real: tf.Tensor, groups: int) -> tf.Tensor:
    """From sums over the real frames to means over them and a group's channels: [B, 1, C]."""
    width = sums.shape[-1] // groups
    count = tf.maximum(tf.reduce_sum(real, 1) * width, 1.0)  # [B, 1]
    means = tf.reduce_sum(tf.reshape(sums, [-1, groups, width]), 2) / count  # [B, G]
    return tf.repeat(means, width, axis=1)[:, None]


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
