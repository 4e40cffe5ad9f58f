"""The Conformer's convolution module."""

from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.configs.model import Norm
from tfasr.models.activations import gated, silu
from tfasr.models.cumulative_norm import CumulativeGroupNorm
from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout
from tfasr.models.normalization import (
    FrameNorm,
    LayerNorm,
    MaskedBatchNorm,
    MaskedGroupNorm,
    frames_or_all,
)
from tfasr.models.scopes import build_in_scope

Padding = Literal["same", "causal"]


@keras.saving.register_keras_serializable(package="tfasr")
class DepthwiseConv(keras.layers.Layer):
    """Depthwise convolution over frames, same length.

    Args:
        kernel_size: In frames; with "same" an even one looks one frame farther ahead than back.
        use_bias: Whether a bias is added to each channel.
        padding: "same" looks ahead and back, "causal" back alone.

    Call:
        x: [B, T, C] float, zero on padded frames.
        returns: [B, T, C].

    Raises:
        ValueError: `padding` is neither "same" nor "causal".
    """

    def __init__(
        self, kernel_size: int, use_bias: bool = False, padding: Padding = "same", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if padding not in ("same", "causal"):
            raise ValueError(f"padding must be same or causal; got padding={padding!r}")
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.padding = padding

    def build(self, input_shape: tf.TensorShape) -> None:
        # Keras would count the channels into both fans of a [K, C, 1] kernel.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, input_shape[-1]),
            initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if self.padding == "same":
            return self._convolved(x, "SAME")
        return self._convolved(tf.pad(x, [[0, 0], [self.kernel_size - 1, 0], [0, 0]]), "VALID")

    def start(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state before a stream."""
        return {"inputs": tf.zeros([batch, self.kernel_size - 1, self.kernel.shape[-1]])}

    def step(
        self, x: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Convolves a chunk [B, T, C], T static, whose past the state keeps.

        Returns:
            [B, T, C], and the state after the chunk: "inputs" [B, K - 1, C].
        """
        whole = tf.concat([tf.cast(state["inputs"], x.dtype), x], 1)
        return self._convolved(whole, "VALID"), {"inputs": whole[:, x.shape[1] :]}

    def _convolved(self, x: tf.Tensor, border: str) -> tf.Tensor:
        kernel = tf.cast(self.kernel, x.dtype)[:, None, :, None]  # [K, 1, C, 1]
        y = tf.nn.depthwise_conv2d(x[:, :, None], kernel, [1, 1, 1, 1], border)
        y = tf.squeeze(y, 2)
        return y + tf.cast(self.bias, y.dtype) if self.use_bias else y

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="tfasr")
class ConvolutionModule(keras.layers.Layer):
    """Layer norm, pointwise and GLU, depthwise, normalisation, Swish, pointwise.

    Args:
        kernel_size: Of the depthwise convolution, in frames.
        norm: Normalisation after the depthwise convolution.
        norm_groups: Channel groups of a group normalisation; divides D.
        dropout: Rate on the output, in [0, 1).
        use_bias: Whether the depthwise convolution has a bias.
        padding: Of the depthwise convolution.
        missing_channels: Of the D channels inside, so many that a federated client's model does
            without. A group normalisation loses whole groups: those that it has are as wide as
            ever, and their statistics are those of the full model.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None turns it off. A seed also makes batch
            normalisation use the batch's statistics.
        returns: [B, T, D].

    Raises:
        ValueError: `norm` or `padding` is unknown, or `missing_channels` leaves no channel or
            a part of a group.

    Source: Gulati et al. (2020), section 2.2 and figure 2.
    """

    def __init__(
        self,
        kernel_size: int,
        norm: Norm = "group",
        norm_groups: int = 16,
        dropout: float = 0.0,
        use_bias: bool = False,
        padding: Padding = "same",
        missing_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.padding = padding
        self.missing_channels = missing_channels
        self.norm_kind = norm
        self.norm_groups = norm_groups
        self.dropout = dropout
        self.supports_masking = True
        self.norm = LayerNorm(name="norm")
        self.depthwise = DepthwiseConv(kernel_size, use_bias, padding, name="depthwise")
        if norm not in ("group", "batch", "layer", "cumulative_group"):
            raise ValueError(
                f"norm must be group, batch, layer or cumulative_group; got norm={norm!r}"
            )

    def _make_norm(self, dim: int, channels: int) -> Any:
        match self.norm_kind:
            case "batch":
                return MaskedBatchNorm(name="depthwise_norm")
            case "layer":
                return FrameNorm(name="depthwise_norm")
        kind = MaskedGroupNorm if self.norm_kind == "group" else CumulativeGroupNorm
        if self.missing_channels * self.norm_groups % dim:
            raise ValueError(
                "missing_channels must leave whole groups; got "
                f"missing_channels={self.missing_channels}, norm_groups={self.norm_groups}, D={dim}"
            )
        return kind(self.norm_groups * channels // dim, name="depthwise_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        channels = dim - self.missing_channels
        if not 0 < channels <= dim:
            raise ValueError(
                "missing_channels must leave a channel; "
                f"got missing_channels={self.missing_channels}, D={dim}"
            )
        self.depthwise_norm = self._make_norm(dim, channels)
        self.pointwise_in = Dense(2 * channels, name="pointwise_in")
        self.pointwise_out = Dense(dim, name="pointwise_out")
        inside = (*input_shape[:-1], channels)
        build_in_scope(self.norm, input_shape)
        build_in_scope(self.pointwise_in, input_shape)
        for layer in (self.depthwise, self.depthwise_norm, self.pointwise_out):
            build_in_scope(layer, inside)
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        mask = frames_or_all(mask, x)
        y = self.depthwise(self._gated(x, mask))
        y = silu(self._normalised(y, mask, training=seed is not None))
        return dropout(self.pointwise_out(y), self.dropout, seed)

    def start(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the state before a stream."""
        if self.norm_kind == "layer":
            return self.depthwise.start(batch)
        return {**self.depthwise.start(batch), **self.depthwise_norm.start(batch)}

    def step(
        self, x: tf.Tensor, mask: tf.Tensor, heard: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Takes a chunk of a stream; needs a causal convolution and a norm of the past.

        Args:
            x: [B, T, D] float, T static.
            mask: [B, T] bool, True on real frames.
            heard: [B] float32, frames before the chunk.
            state: Of the depthwise convolution and the norm after it.

        Returns:
            [B, T, D], and the state after the chunk.
        """
        y, after = self.depthwise.step(self._gated(x, mask), state)
        if self.norm_kind == "layer":
            y = self.depthwise_norm(y)
        else:
            y, statistics = self.depthwise_norm.step(y, mask, heard, state)
            after |= statistics
        return self.pointwise_out(silu(y)), after

    def _gated(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        # The biases before the GLU make padded frames non-zero: they are masked only here,
        # where their neighbours would see them.
        return gated(self.pointwise_in(self.norm(x)), mask)

    def _normalised(self, x: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        if self.norm_kind == "batch":
            return self.depthwise_norm(x, mask=mask, training=training)
        return self.depthwise_norm(x, mask=mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "norm": self.norm_kind,
            "norm_groups": self.norm_groups,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "padding": self.padding,
            "missing_channels": self.missing_channels,
        }
