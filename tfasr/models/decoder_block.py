"""One block of the Transformer decoder."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.decoder_attention import CausalAttention, CrossAttention, KeysAndValues
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.feed_forward import FeedForward
from tfasr.models.scopes import build_in_scope

DECODER_MODULES = ("self_attention", "cross_attention", "feed_forward")


@keras.saving.register_keras_serializable(package="tfasr")
class ReluFeedForward(FeedForward):
    """Layer norm, expansion, ReLU, projection back: the Transformer's feed-forward module.

    Args:
        units: Inner units.
        dropout: Rate after the activation and after the projection, in [0, 1).

    Call:
        x: [B, U, D] float.
        seed: [2] int32 for dropout; None turns it off.
        returns: [B, U, D].

    Source: Vaswani et al. (2017), section 3.3, eq. 2.
    """

    def call(self, x: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        seeds = split_seed(seed)
        y = dropout(tf.nn.relu(self.up(self.norm(x))), self.dropout, next(seeds))
        return dropout(self.down(y), self.dropout, next(seeds))


@keras.saving.register_keras_serializable(package="tfasr")
class DecoderBlock(keras.layers.Layer):
    """Causal self-attention, attention to the encoder, feed-forward.

    Args:
        num_heads: Attention heads; divides D.
        ff_units: Inner units of the feed-forward module.
        dropout: Rate in [0, 1).

    Call:
        x: [N, U, D] float; N is a multiple of B, and rows of one utterance stand together.
        encoded: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None means inference.
        returns: [N, U, D].

    Source: Vaswani et al. (2017), section 3.1, with layer norms in front.
    """

    def __init__(self, num_heads: int, ff_units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = {"num_heads": num_heads, "ff_units": ff_units, "dropout": dropout}
        self.supports_masking = True
        self.self_attention = CausalAttention(num_heads, dropout, name="self_attention")
        self.cross_attention = CrossAttention(num_heads, dropout, name="cross_attention")
        self.feed_forward = ReluFeedForward(ff_units, dropout, name="feed_forward")

    def build(self, input_shape: tf.TensorShape) -> None:
        for module in DECODER_MODULES:
            build_in_scope(getattr(self, module), input_shape)
        super().build(input_shape)

    def call(
        self,
        x: tf.Tensor,
        encoded: tf.Tensor,
        mask: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        x = x + self.self_attention(x, seed=next(seeds))
        x = x + self.cross_attention(x, encoded, mask=mask, seed=next(seeds))
        return x + self.feed_forward(x, seed=next(seeds))

    def step(
        self, x: tf.Tensor, memory: KeysAndValues, mask: tf.Tensor, cache: KeysAndValues
    ) -> tuple[tf.Tensor, KeysAndValues]:
        """Computes what `call` does for one more token.

        Args:
            x: [N, 1, D].
            memory: `cross_attention.project` of the encoder's output.
            mask: [B, T] bool.
            cache: Keys and values of the t tokens before it, [N, H, t, D/H] each.

        Returns:
            [N, 1, D], and the cache of t + 1 tokens.
        """
        y, cache = self.self_attention.step(x, cache)
        x = x + y
        x = x + self.cross_attention.look_up(x, memory, mask)
        return x + self.feed_forward(x), cache

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
