"""One Transformer block."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.model import AttentionKind
from tfasr.models.attention import OUTPUT_GAIN
from tfasr.models.block import make_attention
from tfasr.models.dropout import split_seed
from tfasr.models.feed_forward import FeedForward
from tfasr.models.residual import ResidualPath
from tfasr.models.scopes import build_in_scope


@keras.saving.register_keras_serializable(package="tfasr")
class TransformerBlock(keras.layers.Layer):
    """Self-attention and feed-forward, each of a norm of its input and added to that.

    Positions are relative and the activation is Swish, as in our Conformer.

    Args:
        num_heads: Attention heads; divides D.
        ff_units: Inner units of the feed-forward module.
        dropout: Rate in [0, 1).
        attention: "dense" or "probsparse".

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, T, D].

    Raises:
        ValueError: `attention` is unknown.

    Source: Vaswani et al. (2017), "Attention Is All You Need", section 3.1, with the norms of
        Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture", figure 1b.
    """

    # Frames for each that it gives.
    stride = 1

    def __init__(
        self,
        num_heads: int,
        ff_units: int,
        dropout: float = 0.0,
        attention: AttentionKind = "dense",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "num_heads": num_heads,
            "ff_units": ff_units,
            "dropout": dropout,
            "attention": attention,
        }
        self.supports_masking = True
        self.attention = make_attention(attention, num_heads, dropout)
        self.feed_forward = FeedForward(ff_units, dropout, name="feed_forward")

    @property
    def gains(self) -> dict[str, float]:
        """Xavier gains other than 1 of its first weights, by module and role."""
        return {"attention/output/kernel": OUTPUT_GAIN}

    def residual_path(self) -> ResidualPath:
        """Returns what is left without the modules: the input."""
        return ResidualPath(name=self.name)

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_scope(self.attention, input_shape)
        build_in_scope(self.feed_forward, input_shape)
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        x = x + self.attention(x, mask=mask, seed=next(seeds))
        return x + self.feed_forward(x, seed=next(seeds))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
