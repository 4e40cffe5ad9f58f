"""Weights that a SavedModel makes itself: when it is loaded, or where its graph needs them."""

from collections.abc import Callable

import tensorflow as tf


class RebuiltWeight(tf.saved_model.experimental.TrackableResource):
    """A weight that is computed once, when the model is loaded, and stored in no file.

    Layers take it in a variable's place: it turns into a tensor wherever one is needed.

    Args:
        name: By which a process finds the value in memory: weights of equal names must be equal.
            Two versions of a model that are loaded together share those that they have in common,
            so that nothing frees them before the process ends.
        shape: Of the weight.
        make: Computes it, by operations that the model is to hold.
    """

    def __init__(self, name: str, shape: tuple[int, ...], make: Callable[[], tf.Tensor]) -> None:
        super().__init__()
        self.name = name
        self.shape = tf.TensorShape(shape)
        self.dtype = tf.float32
        self.make = make
        with tf.init_scope():
            self._initialize()

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=self.dtype, shape=self.shape, shared_name=self.name)

    def _initialize(self) -> None:
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=self.make())

    def __tf_tensor__(self, dtype: tf.DType | None = None, name: str | None = None) -> tf.Tensor:
        value = tf.raw_ops.ReadVariableOp(
            resource=self.resource_handle, dtype=self.dtype, name=name
        )
        return tf.ensure_shape(value, self.shape)


class DrawnWeight:
    """A weight that the graph computes wherever it is needed; for those that are all alike.

    Args:
        shape: Of the weight.
        make: Computes it.
    """

    dtype = tf.float32

    def __init__(self, shape: tuple[int, ...], make: Callable[[], tf.Tensor]) -> None:
        self.shape = tf.TensorShape(shape)
        self.make = make

    def __tf_tensor__(self, dtype: tf.DType | None = None, name: str | None = None) -> tf.Tensor:
        return self.make()
