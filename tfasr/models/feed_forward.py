"""The Conformer's feed-forward module."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.activations import silu
from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.normalization import LayerNorm
from tfasr.models.scopes import build_in_scope


@keras.saving.register_keras_serializable(package="tfasr")
class FeedForward(keras.layers.Layer):
    """Layer norm, expansion, Swish, projection back.

    Works on each frame alone, so padding needs no mask.

    Args:
        units: Inner units.
        dropout: Rate after the activation and after the projection, in [0, 1).

    Call:
        x: [B, T, D] float.
        seed: [2] int32 for dropout; None turns it off.
        returns: [B, T, D].

    Source: Gulati et al. (2020), section 2.3 and figure 4.
    """

    def __init__(self, units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.dropout = dropout
        self.supports_masking = True
        self.norm = LayerNorm(name="norm")
        self.up = Dense(units, name="up")

    def build(self, input_shape: tf.TensorShape) -> None:
        self.down = Dense(input_shape[-1], name="down")
        build_in_scope(self.norm, input_shape)
        build_in_scope(self.up, input_shape)
        build_in_scope(self.down, (*input_shape[:-1], self.units))
        super().build(input_shape)

    def call(self, x: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        seeds = split_seed(seed)
        y = silu(self.up(self.norm(x)), self.dropout, next(seeds))
        return dropout(self.down(y), self.dropout, next(seeds))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "dropout": self.dropout}
