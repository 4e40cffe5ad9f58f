"""Variable names that tell where a variable belongs."""

from typing import Any

import keras
import tensorflow as tf


def build_in_scope(layer: keras.layers.Layer, input_shape: Any) -> None:
    """Builds a child layer inside its own name, as calling it would."""
    if not layer.built:
        with tf.name_scope(layer.name):
            layer.build(tf.TensorShape(input_shape))
