"""One Conformer block."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.model import AttentionKind, Norm, Residual
from tfasr.models.attention import OUTPUT_GAIN, RelativeAttention
from tfasr.models.convolution import ConvolutionModule
from tfasr.models.dropout import split_seed
from tfasr.models.feed_forward import FeedForward
from tfasr.models.residual import form_of, layer_norm, without_norm
from tfasr.models.scopes import build_in_scope
from tfasr.models.sparse_attention import ProbSparseAttention

# The modules of a block with the residual "pre_norm"; in place of "norm" others have "norm_1"
# to "norm_4".
MODULES = ("feed_forward_1", "attention", "convolution", "feed_forward_2", "norm")

_ATTENTIONS: dict[AttentionKind, type[RelativeAttention]] = {
    "dense": RelativeAttention,
    "probsparse": ProbSparseAttention,
}


def make_attention(kind: AttentionKind, num_heads: int, dropout: float) -> RelativeAttention:
    """Makes the attention module of a block.

    Raises:
        ValueError: `kind` is neither "dense" nor "probsparse".
    """
    if kind not in _ATTENTIONS:
        raise ValueError(f"attention must be dense or probsparse; got attention={kind!r}")
    return _ATTENTIONS[kind](num_heads, dropout, name="attention")


@keras.saving.register_keras_serializable(package="tfasr")
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, attention, convolution, half feed-forward, each beside a residual.

    Args:
        num_heads: Attention heads; divides D.
        ff_units: Inner units of each feed-forward module. Two numbers let the modules of a
            federated client's block differ.
        conv_kernel: Depthwise kernel size, in frames.
        conv_norm: Normalisation after the depthwise convolution.
        norm_groups: Channel groups of a group normalisation; divides D.
        dropout: Rate in [0, 1).
        attention: "dense" or "probsparse".
        residual: Where norms stand and whether residuals are scaled; see `EncoderConfig`.
        alpha: How often a module's input counts in a "deep_norm" residual.
        beta: Xavier gain of the weights that "deep_norm" starts smaller.
        conv_bias: Whether the depthwise convolution has a bias.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, T, D].

    Raises:
        ValueError: `attention` or `residual` is unknown, or a residual without deep norm is
            given factors.

    Source: Gulati et al. (2020), section 2.4, eq. 1; Wu (2022), "Deep Sparse Conformer",
        eq. 12-15 and section 4.4.2.
    """

    # Frames for each that it gives.
    stride = 1

    def __init__(
        self,
        num_heads: int,
        ff_units: tuple[int, int],
        conv_kernel: int,
        conv_norm: Norm = "group",
        norm_groups: int = 16,
        dropout: float = 0.0,
        attention: AttentionKind = "dense",
        residual: Residual = "pre_norm",
        alpha: float = 1.0,
        beta: float = 1.0,
        conv_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "num_heads": num_heads,
            "ff_units": tuple(ff_units),
            "conv_kernel": conv_kernel,
            "conv_norm": conv_norm,
            "norm_groups": norm_groups,
            "dropout": dropout,
            "attention": attention,
            "residual": residual,
            "alpha": alpha,
            "beta": beta,
            "conv_bias": conv_bias,
        }
        self.form = form_of(residual)
        if not self.form.deep and (alpha, beta) != (1, 1):
            raise ValueError(
                "alpha and beta need a deep_norm residual; "
                f"got alpha={alpha}, beta={beta}, residual={residual}"
            )
        self.supports_masking = True
        self.feed_forward_1 = FeedForward(ff_units[0], dropout, name="feed_forward_1")
        self.attention = make_attention(attention, num_heads, dropout)
        self.convolution = ConvolutionModule(
            conv_kernel, conv_norm, norm_groups, dropout, conv_bias, name="convolution"
        )
        self.feed_forward_2 = FeedForward(ff_units[1], dropout, name="feed_forward_2")
        if not self.form.norm_before:
            for module in MODULES[:-1]:
                without_norm(getattr(self, module))
        for name in self._norms():
            setattr(self, name, layer_norm(name))

    def _norms(self) -> tuple[str, ...]:
        if self.form.norm_after:
            return ("norm_1", "norm_2", "norm_3", "norm_4")
        return ("norm",)

    @property
    def gains(self) -> dict[str, float]:
        """Xavier gains other than 1 of its first weights, by module and role."""
        if not self.form.deep:
            return {"attention/output/kernel": OUTPUT_GAIN}
        feed_forwards = ("feed_forward_1", "feed_forward_2")
        places = [f"{module}/{role}" for module in feed_forwards for role in ("up", "down")]
        places += ["attention/value", "attention/output"]
        return dict.fromkeys([f"{place}/kernel" for place in places], self.settings["beta"])

    def build(self, input_shape: tf.TensorShape) -> None:
        for module in (*MODULES[:-1], *self._norms()):
            build_in_scope(getattr(self, module), input_shape)
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds, places = split_seed(seed), count(1)
        x = self._join(x, 0.5 * self.feed_forward_1(x, seed=next(seeds)), places)
        x = self._join(x, self.attention(x, mask=mask, seed=next(seeds)), places)
        x = self._join(x, self.convolution(x, mask=mask, seed=next(seeds)), places)
        x = self._join(x, 0.5 * self.feed_forward_2(x, seed=next(seeds)), places)
        return self.norm(x) if self.form.norm_last else x

    def _join(self, x: tf.Tensor, y: tf.Tensor, places: Iterator[int]) -> tf.Tensor:
        total = self.settings["alpha"] * x + y if self.form.deep else x + y
        place = next(places)
        return getattr(self, f"norm_{place}")(total) if self.form.norm_after else total

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
