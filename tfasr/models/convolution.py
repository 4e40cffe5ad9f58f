"""The Conformer's convolution module."""

from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.models.dropout import dropout
from tfasr.models.normalization import MaskedBatchNorm, MaskedGroupNorm, frames_or_all
from tfasr.models.scopes import build_in_scope


@keras.saving.register_keras_serializable(package="tfasr")
class DepthwiseConv(keras.layers.Layer):
    """Depthwise convolution over frames, same length.

    Args:
        kernel_size: In frames; an even one looks one frame farther ahead than back.
        use_bias: Whether a bias is added to each channel.

    Call:
        x: [B, T, C] float, zero on padded frames.
        returns: [B, T, C].
    """

    def __init__(self, kernel_size: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.use_bias = use_bias

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
        kernel = tf.cast(self.kernel, x.dtype)[:, None, :, None]  # [K, 1, C, 1]
        y = tf.nn.depthwise_conv2d(x[:, :, None], kernel, [1, 1, 1, 1], "SAME")
        y = tf.squeeze(y, 2)
        return y + tf.cast(self.bias, y.dtype) if self.use_bias else y

    def get_config(self) -> dict[str, Any]:
        sizes = {"kernel_size": self.kernel_size, "use_bias": self.use_bias}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable(package="tfasr")
class ConvolutionModule(keras.layers.Layer):
    """Layer norm, pointwise and GLU, depthwise, normalisation, Swish, pointwise.

    Args:
        kernel_size: Of the depthwise convolution, in frames.
        norm: Normalisation after the depthwise convolution.
        norm_groups: Channel groups of a group normalisation; divides D.
        dropout: Rate on the output, in [0, 1).
        use_bias: Whether the depthwise convolution has a bias.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout; None turns it off. A seed also makes batch
            normalisation use the batch's statistics.
        returns: [B, T, D].

    Raises:
        ValueError: `norm` is neither "group" nor "batch".

    Source: Gulati et al. (2020), section 2.2 and figure 2.
    """

    def __init__(
        self,
        kernel_size: int,
        norm: Literal["group", "batch"] = "group",
        norm_groups: int = 16,
        dropout: float = 0.0,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.norm_kind = norm
        self.norm_groups = norm_groups
        self.dropout = dropout
        self.supports_masking = True
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.depthwise = DepthwiseConv(kernel_size, use_bias, name="depthwise")
        self.depthwise_norm = self._make_norm(norm)

    def _make_norm(self, norm: str) -> Any:
        match norm:
            case "group":
                return MaskedGroupNorm(self.norm_groups, name="depthwise_norm")
            case "batch":
                return MaskedBatchNorm(name="depthwise_norm")
        raise ValueError(f'norm must be "group" or "batch"; got norm={norm!r}')

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        self.pointwise_in = keras.layers.Dense(2 * dim, name="pointwise_in")
        self.pointwise_out = keras.layers.Dense(dim, name="pointwise_out")
        for layer in (
            self.norm,
            self.pointwise_in,
            self.depthwise,
            self.depthwise_norm,
            self.pointwise_out,
        ):
            build_in_scope(layer, input_shape)
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        mask = frames_or_all(mask, x)
        value, gate = tf.split(self.pointwise_in(self.norm(x)), 2, -1)
        y = value * tf.sigmoid(gate)
        # The biases before the GLU make padded frames non-zero: they are masked only here,
        # where their neighbours would see them.
        y = self.depthwise(tf.where(mask[:, :, None], y, tf.zeros([], y.dtype)))
        y = tf.nn.silu(self._normalised(y, mask, training=seed is not None))
        return dropout(self.pointwise_out(y), self.dropout, seed)

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
        }
