"""What variables are given when they are made: names that tell where they belong, and values."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable


def build_in_scope(layer: keras.layers.Layer, input_shape: Any) -> None:
    """Builds a child layer inside its own name, as calling it would."""
    if not layer.built:
        with tf.name_scope(layer.name):
            layer.build(tf.TensorShape(input_shape))


def without_values() -> AbstractContextManager[None]:
    """Makes variables that have names and shapes, and no values nor memory for them."""

    def make(_: Callable[..., tf.Variable], **settings: Any) -> tf.Variable:
        wanted = {name: settings.get(name) for name in ("name", "dtype", "trainable")}
        return UninitializedVariable(shape=settings.get("shape") or (), **wanted)

    scope: AbstractContextManager[None] = tf.variable_creator_scope(make)
    return scope


def zeros_at_first() -> AbstractContextManager[None]:
    """Makes variables whose first values are zeros, whatever their initialisers would draw.

    For graphs that assign all weights before they use any: the draws are a good part of the time
    that it takes to build such a graph, and they would be drawn each time that it runs.
    """

    def make(make_next: Callable[..., tf.Variable], **settings: Any) -> tf.Variable:
        shape, dtype = settings.get("shape") or (), settings.get("dtype") or tf.float32
        return make_next(**{**settings, "initial_value": lambda: tf.zeros(shape, dtype)})

    scope: AbstractContextManager[None] = tf.variable_creator_scope(make)
    return scope
