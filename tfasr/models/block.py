"""One Conformer block."""

from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.models.attention import RelativeAttention
from tfasr.models.convolution import ConvolutionModule
from tfasr.models.dropout import split_seed
from tfasr.models.feed_forward import FeedForward
from tfasr.models.scopes import build_in_scope

MODULES = ("feed_forward_1", "attention", "convolution", "feed_forward_2", "norm")


@keras.saving.register_keras_serializable(package="tfasr")
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, attention, convolution, half feed-forward, layer norm.

    Args:
        num_heads: Attention heads; divides D.
        ff_units: Inner units of each feed-forward module. Two numbers let the modules of a
            federated client's block differ.
        conv_kernel: Depthwise kernel size, in frames.
        conv_norm: Normalisation after the depthwise convolution.
        norm_groups: Channel groups of a group normalisation; divides D.
        dropout: Rate in [0, 1).

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, T, D].

    Source: Gulati et al. (2020), section 2.4, eq. 1.
    """

    def __init__(
        self,
        num_heads: int,
        ff_units: tuple[int, int],
        conv_kernel: int,
        conv_norm: Literal["group", "batch"] = "group",
        norm_groups: int = 16,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "num_heads": num_heads,
            "ff_units": tuple(ff_units),
            "conv_kernel": conv_kernel,
            "conv_norm": conv_norm,
            "norm_groups": norm_groups,
            "dropout": dropout,
        }
        self.supports_masking = True
        self.feed_forward_1 = FeedForward(ff_units[0], dropout, name="feed_forward_1")
        self.attention = RelativeAttention(num_heads, dropout, name="attention")
        self.convolution = ConvolutionModule(
            conv_kernel, conv_norm, norm_groups, dropout, name="convolution"
        )
        self.feed_forward_2 = FeedForward(ff_units[1], dropout, name="feed_forward_2")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        for module in MODULES:
            build_in_scope(getattr(self, module), input_shape)
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        x = x + 0.5 * self.feed_forward_1(x, seed=next(seeds))
        x = x + self.attention(x, mask=mask, seed=next(seeds))
        x = x + self.convolution(x, mask=mask, seed=next(seeds))
        x = x + 0.5 * self.feed_forward_2(x, seed=next(seeds))
        return self.norm(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
