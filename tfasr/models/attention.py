"""Multi-head self-attention with relative positions."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfasr.models.dropout import dropout, split_seed
from tfasr.models.normalization import frames_or_all
from tfasr.models.scopes import build_in_scope

# Fresh attention weighs all frames much alike, so what it adds is common to them, and drowns
# what sets them apart: with a gain of 1, CTC stays at all blanks for hundreds of steps more.
OUTPUT_GAIN = 0.01


def relative_positions(num_frames: tf.Tensor, dim: int) -> tf.Tensor:
    """Sinusoids of the distances T - 1, T - 2, ..., -(T - 1), the farthest past first.

    Args:
        num_frames: T, scalar int32.
        dim: D, even.

    Returns:
        [2 T - 1, D] float32; sines in the first half, cosines in the second.

    Source: Dai et al. (2019), "Transformer-XL", section 3.3 and appendix B.
    """
    distance = tf.cast(tf.range(num_frames - 1, -num_frames, -1), tf.float32)
    frequency = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float32) / dim)
    angle = distance[:, None] * frequency
    return tf.concat([tf.sin(angle), tf.cos(angle)], -1)


@tf.custom_gradient
def relative_shift(scores: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Turns scores by distance into scores by key: out[..., i, j] = in[..., i, T - 1 - i + j].

    Rows of width 2 T, read from place T - 1 on as rows of width 2 T - 1, start one place
    earlier each. The gradient writes the same rows back: TensorFlow's own, through padding,
    takes ten times as long.

    Args:
        scores: [B, H, T, 2 T - 1], column c for distance T - 1 - c.

    Returns:
        [B, H, T, T].

    Source: Dai et al. (2019), "Transformer-XL", appendix B.
    """
    batch, heads, frames, _ = tf.unstack(tf.shape(scores))

    def zeros(*shape: tf.Tensor) -> tf.Tensor:
        return tf.zeros([batch, heads, *shape], scores.dtype)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        skewed = tf.concat([upstream, zeros(frames, frames - 1)], -1)  # [B, H, T, 2 T - 1]
        flat = tf.reshape(skewed, [batch, heads, frames * (2 * frames - 1)])
        flat = tf.concat([zeros(frames - 1), flat, zeros(1)], -1)
        return tf.reshape(flat, [batch, heads, frames, 2 * frames])[..., :-1]

    wide = tf.concat([scores, zeros(frames, 1)], -1)  # [B, H, T, 2 T]
    flat = tf.reshape(wide, [batch, heads, 2 * frames * frames])[..., frames - 1 : -1]
    skewed = tf.reshape(flat, [batch, heads, frames, 2 * frames - 1])
    return skewed[..., :frames], gradient


@keras.saving.register_keras_serializable(package="tfasr")
class RelativeAttention(keras.layers.Layer):
    """Layer norm and multi-head self-attention with relative sinusoidal positions.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None turns it off.
        returns: [B, T, D]; padded frames attend, but nobody attends to them.

    Raises:
        ValueError: `num_heads` does not divide D.

    Source: Gulati et al. (2020), section 2.1; Dai et al. (2019), section 3.3.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.supports_masking = True
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"num_heads must divide D; got num_heads={self.num_heads}, D={dim}")
        build_in_scope(self.norm, input_shape)
        for name in ("query", "key", "value", "output"):
            gain = OUTPUT_GAIN if name == "output" else 1.0
            kernel = keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform")
            dense = keras.layers.Dense(dim, name=name, kernel_initializer=kernel)
            build_in_scope(dense, input_shape)
            setattr(self, f"{name}_dense", dense)
        self.position_dense = keras.layers.Dense(dim, use_bias=False, name="position")
        build_in_scope(self.position_dense, (None, dim))
        heads = (self.num_heads, dim // self.num_heads)
        self.content_bias = self.add_weight(name="content_bias", shape=heads, initializer="zeros")
        self.position_bias = self.add_weight(name="position_bias", shape=heads, initializer="zeros")
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        y = self.norm(x)
        weights = dropout(self._weights(y, frames_or_all(mask, x)), self.dropout, next(seeds))
        mixed = tf.matmul(weights, self._heads(self.value_dense(y)))  # [B, H, T, D/H]
        joined = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), tf.shape(x))
        return dropout(self.output_dense(joined), self.dropout, next(seeds))

    def _weights(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        query, key = self._heads(self.query_dense(x)), self._heads(self.key_dense(x))
        scale = query.shape[-1] ** -0.5
        sinusoids = relative_positions(tf.shape(x)[1], x.shape[-1])
        position = self._heads(self.position_dense(tf.cast(sinusoids, x.dtype))[None])
        content_bias = tf.cast(self.content_bias, x.dtype)[:, None] * scale
        position_bias = tf.cast(self.position_bias, x.dtype)[:, None] * scale
        query = query * scale  # [B, H, T, D/H]
        by_content = tf.matmul(query + content_bias, key, transpose_b=True)  # [B, H, T, T]
        by_distance = tf.matmul(query + position_bias, position, transpose_b=True)
        scores = tf.cast(by_content + relative_shift(by_distance), tf.float32)
        scores = tf.where(mask[:, None, None], scores, scores.dtype.min)
        return tf.cast(tf.nn.softmax(scores), x.dtype)  # [B, H, T, T]

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        size = x.shape[-1] // self.num_heads
        split = tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], self.num_heads, size])
        return tf.transpose(split, [0, 2, 1, 3])  # [B, H, T, D/H]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "dropout": self.dropout}
