"""One Conformer block."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.model import AttentionKind, Norm, Order, Residual
from tfasr.models.attention import OUTPUT_GAIN, ChunkedAttention, RelativeAttention
from tfasr.models.convolution import ConvolutionModule, Padding
from tfasr.models.dense import Dense
from tfasr.models.dropout import split_seed
from tfasr.models.feed_forward import FeedForward
from tfasr.models.frame_stacking import StackedFeedForward, stacked
from tfasr.models.residual import ResidualPath, form_of, layer_norm, without_norm
from tfasr.models.scopes import build_in_scope
from tfasr.models.sparse_attention import ProbSparseAttention

# The modules of a block with the residual "pre_norm"; in place of "norm" others have "norm_1"
# to "norm_4". A block that stacks frames has "stacking" besides.
MODULES = ("feed_forward_1", "attention", "convolution", "feed_forward_2", "norm")

_MIDDLES: dict[Order, tuple[str, str]] = {
    "attention_first": ("attention", "convolution"),
    "convolution_first": ("convolution", "attention"),
}

_ATTENTIONS: dict[AttentionKind, type[RelativeAttention]] = {
    "dense": RelativeAttention,
    "probsparse": ProbSparseAttention,
}


def make_attention(
    kind: AttentionKind, num_heads: int, dropout: float, missing_heads: int = 0
) -> RelativeAttention:
    """Makes the attention module of a block.

    Raises:
        ValueError: `kind` is neither "dense" nor "probsparse".
    """
    if kind not in _ATTENTIONS:
        raise ValueError(f"attention must be dense or probsparse; got attention={kind!r}")
    return _ATTENTIONS[kind](num_heads, dropout, missing_heads=missing_heads, name="attention")


@keras.saving.register_keras_serializable(package="tfasr")
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, attention, convolution, half feed-forward, each beside a residual.

    One that stacks frames gives one for so many: its first feed-forward module takes all of
    them in, and the residual beside that is their projection.

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
        order: Which of attention and convolution comes first.
        conv_padding: "causal" is for streams: the convolution sees no later frame, and dense
            attention may be kept from it.
        stack_factor: Frames s that become one; 1 for none.
        missing_heads: Attention heads that a federated client's block does without.
        missing_channels: Channels of the convolution that it does without.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None means inference.
        attention_mask: [T', T'] bool, True where a frame (row) sees another; None means that
            all see all. Only of a causal block.
        returns: [B, T', D], T' = ceil(T / s).

    Raises:
        ValueError: `attention`, `residual` or `order` is unknown, a residual without deep norm
            is given factors, or `stack_factor` is below 1.

    Source: Gulati et al. (2020), section 2.4, eq. 1; Wu (2022), "Deep Sparse Conformer",
        eq. 12-15 and section 4.4.2; for the order and the stacked frames "Ambient layers",
        section 2.2 and figure 1.
    """

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
        order: Order = "attention_first",
        conv_padding: Padding = "same",
        stack_factor: int = 1,
        missing_heads: int = 0,
        missing_channels: int = 0,
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
            "order": order,
            "conv_padding": conv_padding,
            "stack_factor": stack_factor,
            "missing_heads": missing_heads,
            "missing_channels": missing_channels,
        }
        self._check()
        self.form = form_of(residual)
        # Frames for each that it gives.
        self.stride = stack_factor
        self.supports_masking = True
        self.feed_forward_1 = self._first_feed_forward()
        self.attention = self._attention()
        self.convolution = ConvolutionModule(
            conv_kernel,
            conv_norm,
            norm_groups,
            dropout,
            conv_bias,
            conv_padding,
            missing_channels,
            name="convolution",
        )
        self.feed_forward_2 = FeedForward(ff_units[1], dropout, name="feed_forward_2")
        self._place_norms()

    def _check(self) -> None:
        settings = self.settings
        alpha, beta, residual = (settings[name] for name in ("alpha", "beta", "residual"))
        if not form_of(residual).deep and (alpha, beta) != (1, 1):
            raise ValueError(
                "alpha and beta need a deep_norm residual; "
                f"got alpha={alpha}, beta={beta}, residual={residual}"
            )
        if settings["order"] not in _MIDDLES:
            raise ValueError(
                f"order must be one of {', '.join(_MIDDLES)}; got order={settings['order']!r}"
            )
        if settings["stack_factor"] < 1:
            raise ValueError(
                f"stack_factor must be at least 1; got stack_factor={settings['stack_factor']}"
            )

    def _first_feed_forward(self) -> FeedForward:
        units, dropout = self.settings["ff_units"][0], self.settings["dropout"]
        if self.stride == 1:
            return FeedForward(units, dropout, name="feed_forward_1")
        return StackedFeedForward(units, self.stride, dropout, name="feed_forward_1")

    def _attention(self) -> RelativeAttention:
        names = ("num_heads", "dropout", "missing_heads")
        heads, dropout, missing = (self.settings[name] for name in names)
        if self.settings["attention"] == "dense" and self.settings["conv_padding"] == "causal":
            return ChunkedAttention(heads, dropout, missing, name="attention")
        return make_attention(self.settings["attention"], heads, dropout, missing)

    def _place_norms(self) -> None:
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

    def residual_path(self) -> ResidualPath:
        """Returns what is left without the modules: the input through the last norm."""
        return ResidualPath(getattr(self, self._norms()[-1]), name=self.name)

    def build(self, input_shape: tf.TensorShape) -> None:
        wide = tf.TensorShape([*input_shape[:-1], self.stride * input_shape[-1]])
        if self.stride > 1:
            self.stacking = Dense(input_shape[-1], name="stacking")
            build_in_scope(self.stacking, wide)
        build_in_scope(self.feed_forward_1, wide)
        middle = _MIDDLES[self.settings["order"]]
        for module in (*middle, "feed_forward_2", *self._norms()):
            build_in_scope(getattr(self, module), input_shape)
        super().build(input_shape)

    def compute_mask(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        return mask if mask is None or self.stride == 1 else mask[:, :: self.stride]

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        seeds, shorter = split_seed(seed), self.compute_mask(x, mask)
        visible = {} if attention_mask is None else {"attention_mask": attention_mask}

        def run(module: str, y: tf.Tensor) -> tf.Tensor:
            more = visible if module == "attention" else {}
            return getattr(self, module)(y, mask=shorter, seed=next(seeds), **more)

        return self._through(x, mask, run, seeds)

    def start(self, batch: tf.Tensor, past: int) -> dict[str, tf.Tensor]:
        """Returns the state before a stream.

        Args:
            batch: Rows B, scalar int32.
            past: Frames before a chunk that its frames see, of those that the block gives.

        Returns:
            [B, ...] float32 tensors by name.
        """
        return {**self.attention.start(batch, past), **self.convolution.start(batch)}

    def step(
        self, x: tf.Tensor, mask: tf.Tensor, heard: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Takes a chunk of a stream; needs a causal block.

        Args:
            x: [B, T, D] float, T static and a multiple of s.
            mask: [B, T] bool, True on real frames.
            heard: [B] float32, frames before the chunk, of those that the block gives.
            state: As `start` or the last step gave it.

        Returns:
            [B, T / s, D], and the state after the chunk.
        """
        shorter = self.compute_mask(x, mask)
        after: dict[str, tf.Tensor] = {}

        def run(module: str, y: tf.Tensor) -> tf.Tensor:
            y, kept = getattr(self, module).step(y, shorter, heard, state)
            after.update(kept)
            return y

        return self._through(x, mask, run, split_seed(None)), after

    def _through(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None,
        run: Callable[[str, tf.Tensor], tf.Tensor],
        seeds: Iterator[tf.Tensor | None],
    ) -> tf.Tensor:
        places = count(1)
        wide = x if self.stride == 1 else stacked(x, mask, self.stride)  # [B, T', s D]
        x = x if self.stride == 1 else self.stacking(wide)
        x = self._join(x, 0.5 * self.feed_forward_1(wide, seed=next(seeds)), places)
        for module in _MIDDLES[self.settings["order"]]:
            x = self._join(x, run(module, x), places)
        x = self._join(x, 0.5 * self.feed_forward_2(x, seed=next(seeds)), places)
        return self.norm(x) if self.form.norm_last else x

    def _join(self, x: tf.Tensor, y: tf.Tensor, places: Iterator[int]) -> tf.Tensor:
        total = self.settings["alpha"] * x + y if self.form.deep else x + y
        place = next(places)
        return getattr(self, f"norm_{place}")(total) if self.form.norm_after else total

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
