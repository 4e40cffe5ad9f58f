"""Convolutional subsampling by four."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.normalization import frames_or_all
from tfasr.models.scopes import build_in_scope

SUBSAMPLING = 4


def subsampled(num_frames: tf.Tensor) -> tf.Tensor:
    """Frames after two halvings, each rounded up."""
    return (num_frames + SUBSAMPLING - 1) // SUBSAMPLING


@keras.saving.register_keras_serializable(package="tfasr")
class ConvSubsampling(keras.layers.Layer):
    """Two 3x3 convolutions of stride 2 with ReLU, and a projection to the model's width.

    One frame is padded on either side whatever the length, where "same" padding would move
    with the parity of the longest utterance in the batch.

    Args:
        dim: Channels of the convolutions and width D of the output.

    Call:
        x: [B, T, F] float features.
        mask: [B, T] bool, True on real frames; None means all are real.
        returns: [B, ceil(T / 4), D].

    Source: Gulati et al. (2020), section 2; channels and padding from the counts of table 1.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.conv_1 = keras.layers.Conv2D(dim, 3, 2, "valid", activation="relu", name="conv_1")
        self.conv_2 = keras.layers.Conv2D(dim, 3, 2, "valid", activation="relu", name="conv_2")
        self.project = keras.layers.Dense(dim, name="project")

    def build(self, input_shape: tf.TensorShape) -> None:
        bins = subsampled(input_shape[-1])
        build_in_scope(self.conv_1, (None, None, None, 1))
        build_in_scope(self.conv_2, (None, None, None, self.dim))
        build_in_scope(self.project, (None, None, bins * self.dim))
        super().build(input_shape)

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        mask = frames_or_all(mask, x)
        y = self.conv_1(_bordered(x[..., None], mask))  # [B, T/2, F/2, D]
        y = self.conv_2(_bordered(y, mask[:, ::2]))  # [B, T/4, F/4, D]
        batch, frames = tf.shape(y)[0], tf.shape(y)[1]
        return self.project(tf.reshape(y, [batch, frames, y.shape[2] * self.dim]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


def _bordered(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    real = tf.where(mask[:, :, None, None], x, tf.zeros([], x.dtype))
    return tf.pad(real, [[0, 0], [1, 1], [1, 1], [0, 0]])
