"""The blocks of Citrinet: separable convolutions over frames, squeezed and excited."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.model import Norm
from tfasr.models.convolution import DepthwiseConv
from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.normalization import MaskedBatchNorm, MaskedGroupNorm, frames_or_all
from tfasr.models.residual import ResidualPath
from tfasr.models.scopes import build_in_scope


@keras.saving.register_keras_serializable(package="tfasr")
class NormalisedPointwise(keras.layers.Layer):
    """A product with each frame, without a bias, and a normalisation over frames.

    Args:
        channels: C, of the output.
        norm: "group" or "batch".
        norm_groups: Channel groups of a group normalisation; divides C.

    Call:
        x: [B, T, C'] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32; with one a batch normalisation uses the batch's statistics.
        returns: [B, T, C], zero on padded frames.

    Raises:
        ValueError: `norm` is neither "group" nor "batch", or `norm_groups` does not divide C.
    """

    def __init__(
        self, channels: int, norm: Norm = "group", norm_groups: int = 16, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "norm": norm,
            "norm_groups": norm_groups,
        }
        self.supports_masking = True
        self.pointwise = Dense(channels, use_bias=False, name="pointwise")
        match norm:
            case "group":
                self.norm = MaskedGroupNorm(norm_groups, name="norm")
            case "batch":
                self.norm = MaskedBatchNorm(name="norm")
            case _:
                raise ValueError(f'norm must be "group" or "batch"; got norm={norm!r}')

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_scope(self.pointwise, input_shape)
        build_in_scope(self.norm, (None, None, self.settings["channels"]))
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        y = self.pointwise(x)
        if self.settings["norm"] == "batch":
            return self.norm(y, mask=mask, training=seed is not None)
        return self.norm(y, mask=mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tfasr")
class SeparableConv(NormalisedPointwise):
    """Depthwise convolution over frames, pointwise product and normalisation.

    Args:
        channels: C, of the output.
        kernel_size: Of the depthwise convolution, in frames, odd.
        stride: Frames for each that it gives.
        norm: "group" or "batch".
        norm_groups: Channel groups of a group normalisation; divides C.

    Call:
        x: [B, T, C'] float, zero on padded frames.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32; with one a batch normalisation uses the batch's statistics.
        returns: [B, ceil(T / stride), C], zero on padded frames.

    Source: Kriman et al. (2020), "QuartzNet", section 2.1; Majumdar et al. (2021), "Citrinet",
        section 2.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        norm: Norm = "group",
        norm_groups: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, norm, norm_groups, **kwargs)
        self.settings = {**self.settings, "kernel_size": kernel_size, "stride": stride}
        self.depthwise = DepthwiseConv(kernel_size, name="depthwise")

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_scope(self.depthwise, input_shape)
        super().build(input_shape)

    def compute_mask(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        return None if mask is None else mask[:, :: self.settings["stride"]]

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        # "Same" padding of a stride would move with the parity of the longest utterance.
        y = self.depthwise(x)[:, :: self.settings["stride"]]
        return super().call(y, self.compute_mask(x, mask), seed)


@keras.saving.register_keras_serializable(package="tfasr")
class SqueezeExcite(keras.layers.Layer):
    """Scales each channel by what the mean over the utterance's frames says of it.

    Args:
        ratio: Channels for each unit of the inner layer; divides C.

    Call:
        x: [B, T, C] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        returns: [B, T, C].

    Raises:
        ValueError: `ratio` does not divide C.

    Source: Hu et al. (2018), "Squeeze-and-Excitation Networks", section 3; over all frames as
        Majumdar et al. (2021), "Citrinet", section 2.
    """

    def __init__(self, ratio: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ratio = ratio
        self.supports_masking = True

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = input_shape[-1]
        if channels % self.ratio:
            raise ValueError(f"ratio must divide C; got ratio={self.ratio}, C={channels}")
        inner = channels // self.ratio
        self.down = Dense(inner, activation="relu", use_bias=False, name="down")
        self.up = Dense(channels, activation="sigmoid", use_bias=False, name="up")
        build_in_scope(self.down, (None, channels))
        build_in_scope(self.up, (None, inner))
        super().build(input_shape)

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        real = tf.cast(frames_or_all(mask, x), tf.float32)[:, :, None]  # [B, T, 1]
        mean = tf.reduce_sum(tf.cast(x, tf.float32) * real, 1)
        mean = mean / tf.maximum(tf.reduce_sum(real, 1), 1.0)  # [B, C]
        return x * self.up(self.down(tf.cast(mean, x.dtype)))[:, None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ratio": self.ratio}


@keras.saving.register_keras_serializable(package="tfasr")
class CitrinetEnd(keras.layers.Layer):
    """What stands before and after the mega-blocks: one convolution, squeezed and excited.

    Args:
        channels: C, of the output.
        kernel_size: Of the depthwise convolution, in frames, odd.
        squeeze: Channels for each unit of the squeeze's inner layer.
        norm: "group" or "batch".
        norm_groups: Channel groups of a group normalisation; divides C.

    Call:
        x: [B, T, C'] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32; with one a batch normalisation uses the batch's statistics.
        returns: [B, T, C].

    Source: Majumdar et al. (2021), "Citrinet", section 2.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        squeeze: int = 8,
        norm: Norm = "group",
        norm_groups: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim = channels
        self.settings: dict[str, Any] = {
            "channels": channels,
            "kernel_size": kernel_size,
            "squeeze": squeeze,
            "norm": norm,
            "norm_groups": norm_groups,
        }
        self.supports_masking = True
        self.convolution = SeparableConv(
            channels, kernel_size, 1, norm, norm_groups, name="convolution"
        )
        self.squeeze = SqueezeExcite(squeeze, name="squeeze")

    def num_frames(self, num_frames: tf.Tensor) -> tf.Tensor:
        """Counts the real frames it gives of so many: as many."""
        return num_frames

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([*input_shape[:-1], self.dim])

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_scope(self.convolution, input_shape)
        build_in_scope(self.squeeze, self.compute_output_shape(input_shape))
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        mask = frames_or_all(mask, x)
        y = self.convolution(real_frames(x, mask), mask=mask, seed=seed)
        return tf.nn.relu(self.squeeze(y, mask=mask))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tfasr")
class CitrinetBlock(keras.layers.Layer):
    """A mega-block: convolutions with ReLU between, squeezed and excited, beside a residual.

    Args:
        kernel_size: Of the depthwise convolutions, in frames, odd.
        stride: Of the last convolution and the residual.
        repeat: Convolutions R.
        squeeze: Channels for each unit of the squeeze's inner layer.
        norm: "group" or "batch".
        norm_groups: Channel groups of a group normalisation; divides C.
        dropout: Rate after each activation, in [0, 1).

    Call:
        x: [B, T, C] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, ceil(T / stride), C].

    Source: Majumdar et al. (2021), "Citrinet", section 2.
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int = 1,
        repeat: int = 5,
        squeeze: int = 8,
        norm: Norm = "group",
        norm_groups: int = 16,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.settings: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": stride,
            "repeat": repeat,
            "squeeze": squeeze,
            "norm": norm,
            "norm_groups": norm_groups,
            "dropout": dropout,
        }
        self.supports_masking = True

    @property
    def gains(self) -> dict[str, float]:
        """Xavier gains other than 1 of its first weights, by module and role: none."""
        return {}

    def residual_path(self) -> ResidualPath:
        """Refuses: the residual is a projection with a norm, most of a block's parameters."""
        raise ValueError(
            f"{self.name}: the residual path of a Citrinet's block is a projection, so it can't be "
            "pruned; freeze it as constant, seed or int8"
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        channels, settings = input_shape[-1], self.settings
        normalised: dict[str, Any] = {
            "norm": settings["norm"],
            "norm_groups": settings["norm_groups"],
        }
        strides = [1] * (settings["repeat"] - 1) + [self.stride]
        self.convolutions = [
            SeparableConv(
                channels, settings["kernel_size"], stride, name=f"convolution_{place}", **normalised
            )
            for place, stride in enumerate(strides, start=1)
        ]
        self.squeeze = SqueezeExcite(settings["squeeze"], name="squeeze")
        self.residual = NormalisedPointwise(channels, name="residual", **normalised)
        for layer in (*self.convolutions, self.squeeze, self.residual):
            build_in_scope(layer, input_shape)
        super().build(input_shape)

    def compute_mask(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        return None if mask is None else mask[:, :: self.stride]

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        rate, seeds = self.settings["dropout"], split_seed(seed)
        mask = frames_or_all(mask, x)
        x = real_frames(x, mask)
        shorter = self.compute_mask(x, mask)
        y = self.convolutions[0](x, mask=mask, seed=seed)
        for convolution in self.convolutions[1:]:
            y = dropout(tf.nn.relu(y), rate, next(seeds))
            y = convolution(y, mask=mask, seed=seed)
        y = self.squeeze(y, mask=shorter)
        y = y + self.residual(x[:, :: self.stride], mask=shorter, seed=seed)
        return dropout(tf.nn.relu(y), rate, next(seeds))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


def real_frames(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sets padded frames to zero."""
    return tf.where(mask[:, :, None], x, tf.zeros([], x.dtype))
