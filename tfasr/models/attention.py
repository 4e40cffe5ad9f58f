"""Multi-head self-attention with relative positions."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfasr.models.attention_weights import relative_weights, with_visibility
from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.fusion import is_inferring
from tfasr.models.normalization import LayerNorm, frames_or_all
from tfasr.models.scopes import build_in_scope

# Fresh attention weighs all frames much alike, so what it adds is common to them, and drowns
# what sets them apart: with a gain of 1, CTC stays at all blanks for hundreds of steps more.
OUTPUT_GAIN = 0.01


def relative_positions(num_frames: tf.Tensor, dim: int, past: int = 0) -> tf.Tensor:
    """Sinusoids of the distances P + T - 1, P + T - 2, ..., -(T - 1), the farthest past first.

    Args:
        num_frames: T, scalar int32.
        dim: D, even.
        past: Frames P before the first of the T, attended to alone.

    Returns:
        [P + 2 T - 1, D] float32; sines in the first half, cosines in the second.

    Source: Dai et al. (2019), "Transformer-XL", section 3.3 and appendix B.
    """
    distance = tf.cast(tf.range(past + num_frames - 1, -num_frames, -1), tf.float32)
    frequency = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float32) / dim)
    angle = distance[:, None] * frequency
    return tf.concat([tf.sin(angle), tf.cos(angle)], -1)


def chunk_mask(num_frames: tf.Tensor, chunk: tf.Tensor, left_context: int) -> tf.Tensor:
    """Says which frames a frame may see: those of its chunk, and so many before it.

    Args:
        num_frames: T, scalar int32.
        chunk: Frames of a chunk, scalar int32; 0 for one chunk of all frames.
        left_context: Frames before a chunk that its frames see.

    Returns:
        [T, T] bool, queries by keys.
    """
    frame = tf.range(num_frames)
    chunk = tf.maximum(tf.where(tf.equal(chunk, 0), num_frames, chunk), 1)
    start = frame // chunk * chunk
    key, start = frame[None], start[:, None]
    return (key >= start - left_context) & (key < start + chunk)


@keras.saving.register_keras_serializable(package="tfasr")
class RelativeAttention(keras.layers.Layer):
    """Layer norm and multi-head self-attention with relative sinusoidal positions.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).
        missing_heads: Of the H heads, so many that a federated client's model does without;
            those that it has are D/H wide as ever.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None turns it off.
        returns: [B, T, D]; padded frames attend, but nobody attends to them.

    Raises:
        ValueError: `num_heads` does not divide D, or no head is left.

    Source: Gulati et al. (2020), section 2.1; Dai et al. (2019), section 3.3.
    """

    def __init__(
        self, num_heads: int, dropout: float = 0.0, missing_heads: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= missing_heads < num_heads:
            raise ValueError(
                "missing_heads must leave a head; "
                f"got missing_heads={missing_heads}, num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.missing_heads = missing_heads
        self.heads = num_heads - missing_heads
        self.supports_masking = True
        self.norm = LayerNorm(name="norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"num_heads must divide D; got num_heads={self.num_heads}, D={dim}")
        build_in_scope(self.norm, input_shape)
        heads = (self.heads, dim // self.num_heads)
        inner = heads[0] * heads[1]
        inside = (*input_shape[:-1], inner)
        for name in ("query", "key", "value", "output"):
            units, gain, shape = inner, 1.0, input_shape
            if name == "output":
                units, gain, shape = dim, OUTPUT_GAIN, inside
            kernel = keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform")
            dense = Dense(units, name=name, kernel_initializer=kernel)
            build_in_scope(dense, shape)
            setattr(self, f"{name}_dense", dense)
        self.position_dense = Dense(inner, use_bias=False, name="position")
        build_in_scope(self.position_dense, (None, dim))
        self.content_bias = self.add_weight(name="content_bias", shape=heads, initializer="zeros")
        self.position_bias = self.add_weight(name="position_bias", shape=heads, initializer="zeros")
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        return self._attended(x, mask, seed)

    def _attended(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None,
        seed: tf.Tensor | None,
        attention_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        y = self.norm(x)
        weights = self._weights(y, frames_or_all(mask, x), attention_mask, next(seeds))
        mixed = tf.matmul(weights, self._heads(self.value_dense(y)))  # [B, H, T, D/H]
        return dropout(self._joined(mixed), self.dropout, next(seeds))

    def _weights(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        attention_mask: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        visible = mask[:, None, None]  # [B, 1, 1, T]
        if attention_mask is not None:
            visible = visible & attention_mask  # [B, 1, T, T]
        query, key = self._heads(self.query_dense(x)), self._heads(self.key_dense(x))
        return self._weighed(query, key, visible, seed=seed)

    def _weighed(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        visible: tf.Tensor,
        past: int = 0,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Weighs keys [B, H, P + T, D/H] for queries [B, H, T, D/H], where these see them."""
        size = query.shape[-1]
        # The size of what all blocks are given alike, so that a graph needs one table for them all.
        num_frames = tf.shape(visible)[3] - past
        sinusoids = relative_positions(num_frames, self.num_heads * size, past)
        sinusoids = tf.pad(sinusoids, [[0, 1], [0, 0]])  # The column that the shift does not use.
        position = self._heads(self.position_dense(tf.cast(sinusoids, query.dtype))[None])
        scale = size**-0.5
        content_bias = tf.cast(self.content_bias, query.dtype)[:, None] * scale
        position_bias = tf.cast(self.position_bias, query.dtype)[:, None] * scale
        query = query * scale
        by_distance = tf.matmul(query + position_bias, position, transpose_b=True)
        query = query + content_bias
        if is_inferring() and visible.shape[2] == 1:
            # A pass over the scores less: whom all see is decided within the product.
            query, key, visible = *with_visibility(query, key, visible), None
        by_content = tf.matmul(query, key, transpose_b=True)  # [B, H, T, P + T]
        return relative_weights(by_content, by_distance, visible, self.dropout, seed)

    def _joined(self, mixed: tf.Tensor) -> tf.Tensor:
        """Turns [B, H, T, D/H] into the module's output [B, T, D]."""
        frames = tf.transpose(mixed, [0, 2, 1, 3])
        width = frames.shape[2] * frames.shape[3]
        return self.output_dense(
            tf.reshape(frames, [tf.shape(frames)[0], tf.shape(frames)[1], width])
        )

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        size = x.shape[-1] // self.heads
        # With both lengths of `x` in the shape, tf2onnx joins it wrongly with the reshape before.
        split = tf.reshape(x, [-1, tf.shape(x)[1], self.heads, size])
        return tf.transpose(split, [0, 2, 1, 3])  # [B, H, T, D/H]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "missing_heads": self.missing_heads,
        }


@keras.saving.register_keras_serializable(package="tfasr")
class ChunkedAttention(RelativeAttention):
    """Relative attention that may be kept from seeing some frames, or taken chunk by chunk.

    Its weights are those of `RelativeAttention`.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).
        missing_heads: As of `RelativeAttention`.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None turns it off.
        attention_mask: [T, T] bool, True where a query (row) sees a key; None means that all
            see all.
        returns: [B, T, D]; padded frames attend, but nobody attends to them.

    Raises:
        ValueError: `num_heads` does not divide D.
    """

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        return self._attended(x, mask, seed, attention_mask)

    def start(self, batch: tf.Tensor, past: int) -> dict[str, tf.Tensor]:
        """Returns the state before a stream: `past` frames that nobody sees yet."""
        heads, size = self.content_bias.shape
        nothing = tf.zeros([batch, heads, past, size])
        return {"keys": nothing, "values": nothing}

    def step(
        self, x: tf.Tensor, mask: tf.Tensor, heard: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Attends to a chunk and to the frames before it that the state keeps.

        Args:
            x: [B, T, D] float, T static.
            mask: [B, T] bool, True on real frames.
            heard: [B] float32, frames before the chunk.
            state: "keys" and "values" [B, H, P, D/H] of the last P frames.

        Returns:
            [B, T, D], and the state after the chunk.
        """
        y = self.norm(x)
        chunk, past = y.shape[1], state["keys"].shape[2]
        key, value = (
            tf.concat([tf.cast(state[name], x.dtype), self._heads(dense(y))], 2)
            for name, dense in (("keys", self.key_dense), ("values", self.value_dense))
        )  # [B, H, P + T, D/H]
        seen = heard[:, None] >= tf.range(past, 0, -1, tf.float32)  # [B, P]
        visible = tf.concat([seen, mask], 1)[:, None, None]
        weights = self._weighed(self._heads(self.query_dense(y)), key, visible, past)
        after = {"keys": key[:, :, chunk:], "values": value[:, :, chunk:]}
        return self._joined(tf.matmul(weights, value)), after
