"""The dense layer, on any number of axes as one product of matrices."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfasr")
class Dense(keras.layers.Dense):
    """A product with a kernel, a bias and an activation, of each frame alone.

    Keras's own takes a product of tensors for more than two axes: a dozen operations to learn the
    shape, and the bias after a reshape, where TensorFlow no longer adds it within the product.

    Call:
        x: [..., C] float.
        returns: [..., U].
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if x.shape.rank == 2:
            return super().call(x)
        y = super().call(tf.reshape(x, [-1, x.shape[-1]]))
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [self.units]], 0))
        y.set_shape([*x.shape[:-1], self.units])
        return y
