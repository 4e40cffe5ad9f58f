"""The decoder's multi-head attention: to the tokens before, and to the encoder's frames."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.normalization import LayerNorm, frames_or_all
from tfasr.models.scopes import build_in_scope

KeysAndValues = tuple[tf.Tensor, tf.Tensor]


class DecoderAttention(keras.layers.Layer):
    """Layer norm and multi-head attention: the weights and the equation of both kinds.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).

    Raises:
        ValueError: `num_heads` does not divide D.

    Source: Vaswani et al. (2017), "Attention Is All You Need", section 3.2, with the layer norm
        in front, as Xiong et al. (2020), "On Layer Normalization in the Transformer
        Architecture", figure 1 (b), has it.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.supports_masking = True
        self.norm = LayerNorm(name="norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"num_heads must divide D; got num_heads={self.num_heads}, D={dim}")
        build_in_scope(self.norm, input_shape)
        for name in ("query", "key", "value", "output"):
            dense = Dense(dim, name=name)
            build_in_scope(dense, input_shape)
            setattr(self, f"{name}_dense", dense)
        super().build(input_shape)

    def project(self, x: tf.Tensor) -> KeysAndValues:
        """Makes keys and values, [B, H, T, D/H] each, of what is attended to, [B, T, D]."""
        return self._heads(self.key_dense(x)), self._heads(self.value_dense(x))

    def _attend(
        self, x: tf.Tensor, memory: KeysAndValues, allowed: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Mixes values by query: normalised x [B, U, D] to [B, U, D].

        `allowed`, bool, takes the form of the scores [B, H, U, T] where it is narrower.
        """
        seeds = split_seed(seed)
        keys, values = memory
        query = self._heads(self.query_dense(x))
        query = query * query.shape[-1] ** -0.5
        scores = tf.cast(tf.matmul(query, keys, transpose_b=True), tf.float32)
        scores = tf.where(allowed, scores, scores.dtype.min)  # [B, H, U, T]
        weights = dropout(tf.cast(tf.nn.softmax(scores), x.dtype), self.dropout, next(seeds))
        mixed = tf.matmul(weights, values)  # [B, H, U, D/H]
        joined = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), tf.shape(x))
        return dropout(self.output_dense(joined), self.dropout, next(seeds))

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        size = x.shape[-1] // self.num_heads
        split = tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], self.num_heads, size])
        return tf.transpose(split, [0, 2, 1, 3])  # [B, H, T, D/H]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "dropout": self.dropout}


@keras.saving.register_keras_serializable(package="tfasr")
class CausalAttention(DecoderAttention):
    """Layer norm and self-attention in which a place sees itself and the places before it.

    Padding comes last, so no real place sees it and there is no mask.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).

    Call:
        x: [B, U, D] float.
        seed: [2] int32 for dropout; None turns it off.
        returns: [B, U, D].

    Raises:
        ValueError: `num_heads` does not divide D.

    Source: Vaswani et al. (2017), section 3.2.3.
    """

    def call(self, x: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        y = self.norm(x)
        place = tf.range(tf.shape(x)[1])
        return self._attend(y, self.project(y), place[:, None] >= place, seed)

    def step(self, x: tf.Tensor, cache: KeysAndValues) -> tuple[tf.Tensor, KeysAndValues]:
        """Computes what `call` does for one more place.

        Args:
            x: [N, 1, D].
            cache: Keys and values of the t places before it, [N, H, t, D/H] each.

        Returns:
            [N, 1, D], and the cache of t + 1 places.
        """
        y = self.norm(x)
        keys, values = (
            tf.concat([before, now], 2) for before, now in zip(cache, self.project(y), strict=True)
        )
        return self._attend(y, (keys, values), tf.constant(True), None), (keys, values)


@keras.saving.register_keras_serializable(package="tfasr")
class CrossAttention(DecoderAttention):
    """Layer norm and attention of tokens to the real frames of their utterance.

    There may be several rows of tokens to an utterance: they are attended to together, and the
    utterance's keys and values are made and held once.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).

    Call:
        x: [N, U, D] float; N is a multiple of B, and rows of one utterance stand together.
        encoded: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None turns it off.
        returns: [N, U, D].

    Raises:
        ValueError: `num_heads` does not divide D.

    Source: Vaswani et al. (2017), section 3.2.3.
    """

    def call(
        self,
        x: tf.Tensor,
        encoded: tf.Tensor,
        mask: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        return self.look_up(x, self.project(encoded), frames_or_all(mask, encoded), seed)

    def look_up(
        self,
        x: tf.Tensor,
        memory: KeysAndValues,
        mask: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes what `call` does from the `project`ion of the encoder's output."""
        together = tf.reshape(x, [tf.shape(mask)[0], -1, x.shape[-1]])  # [B, N/B U, D]
        y = self._attend(self.norm(together), memory, mask[:, None, None], seed)
        return tf.reshape(y, tf.shape(x))
