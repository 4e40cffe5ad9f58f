import keras
import tensorflow as tf

from tfasr.models.scopes import build_in_scope


class Parent(keras.layers.Layer):
    """A layer of one child, built as it is told."""

    def __init__(self):
        super().__init__(name="parent")
        self.child = keras.layers.Dense(2, name="child")

    def build(self, input_shape):
        build_in_scope(self.child, input_shape)
        super().build(input_shape)

    def call(self, x):
        return self.child(x)


def test_a_child_s_variables_carry_the_names_of_child_and_parent():
    layer = Parent()
    layer(tf.zeros([1, 3]))
    assert [v.name for v in layer.variables] == ["parent/child/kernel:0", "parent/child/bias:0"]


def test_names_are_the_same_whether_a_layer_is_built_or_called():
    called, built = Parent(), Parent()
    called(tf.zeros([1, 3]))
    build_in_scope(built, (None, 3))
    assert [v.name for v in built.variables] == [v.name for v in called.variables]


def test_a_child_that_is_built_keeps_its_variables():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    kernel = layer.kernel
    build_in_scope(layer, (None, 3))
    assert layer.kernel is kernel
