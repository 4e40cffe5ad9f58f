"""Neighbouring frames taken as one."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.dense import Dense
from tfasr.models.feed_forward import FeedForward
from tfasr.models.normalization import frames_or_all
from tfasr.models.scopes import build_in_scope


def stacked(x: tf.Tensor, mask: tf.Tensor | None, factor: int) -> tf.Tensor:
    """Joins each `factor` neighbouring frames; those that are missing at the end are zeros.

    Args:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        factor: Frames s that become one.

    Returns:
        [B, ceil(T / s), s D].
    """
    x = tf.where(frames_or_all(mask, x)[:, :, None], x, tf.zeros([], x.dtype))
    batch, frames, dim = tf.shape(x)[0], tf.shape(x)[1], x.shape[-1]
    x = tf.pad(x, [[0, 0], [0, -frames % factor], [0, 0]])
    return tf.reshape(x, [batch, (frames + factor - 1) // factor, factor * dim])


@keras.saving.register_keras_serializable(package="tfasr")
class StackedFeedForward(FeedForward):
    """A feed-forward module that takes in stacked frames and gives single ones.

    Args:
        units: Inner units.
        factor: Frames s of width D in each that it is given.
        dropout: Rate after the activation and after the projection, in [0, 1).

    Call:
        x: [B, T, s D] float.
        seed: [2] int32 for dropout; None turns it off.
        returns: [B, T, D].
    """

    def __init__(self, units: int, factor: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(units, dropout, **kwargs)
        self.factor = factor

    def build(self, input_shape: tf.TensorShape) -> None:
        self.down = Dense(input_shape[-1] // self.factor, name="down")
        build_in_scope(self.norm, input_shape)
        build_in_scope(self.up, input_shape)
        build_in_scope(self.down, (*input_shape[:-1], self.units))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}
