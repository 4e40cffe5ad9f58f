"""The two convolutions of subsampling, as products of matrices where that is faster."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfasr.models.fusion import fused, is_fusing, is_inferring

_SIDE, _STRIDE = 3, 2


def bordered_patches(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Lists what a 3x3 convolution of stride 2 sees of one channel, with a border round it.

    Args:
        x: [B, T, F] float.
        mask: [B, T] bool, True on real frames.

    Returns:
        [B, T / 2 + 2, F / 2 + 2, 10], halves rounded up: nine neighbours, zero beyond x and on
        padded frames, and a one for the bias; all zero on padded frames and on the border.
        A product with the kernel and the bias is then zero where the next convolution sees
        nothing, and need not be masked and padded, which takes as long as the product does.
    """
    zero = tf.zeros([], x.dtype)
    real = tf.expand_dims(tf.where(tf.expand_dims(mask, -1), x, zero), -1)
    real = tf.pad(real, [[0, 0], [1, 1], [1, 1], [0, 0]])
    pick = np.eye(_SIDE**2).reshape(_SIDE, _SIDE, 1, _SIDE**2)
    patches = tf.nn.conv2d(real, tf.constant(pick, x.dtype), _STRIDE, "VALID")
    patches = tf.pad(patches, [[0, 0], [0, 0], [0, 0], [0, 1]], constant_values=1)
    patches = tf.where(mask[:, ::_STRIDE, None, None], patches, zero)
    return tf.pad(patches, [[0, 0], [1, 1], [1, 1], [0, 0]])


def strided_convolution(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """3x3 convolution of stride 2 without a border, and ReLU.

    Args:
        x: [B, T, F, C] float.
        kernel: [3, 3, C, D].
        bias: [D].

    Returns:
        [B, T', F', D].
    """

    @tf.custom_gradient
    def convolve(
        x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        y = _convolved(x, kernel, bias)

        def gradient(upstream: tf.Tensor) -> Any:
            upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=y)
            of_x = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, _STRIDE, _STRIDE, 1],
                padding="VALID",
            )
            return of_x, _kernel_gradient(x, kernel, upstream), tf.reduce_sum(upstream, [0, 1, 2])

        return y, gradient

    if is_inferring():
        return _convolved(x, kernel, bias)
    return convolve(x, tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))


def _convolved(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, _STRIDE, "VALID"), bias))


def _kernel_gradient(x: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    if not is_fusing():
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=tf.shape(kernel),
            out_backprop=upstream,
            strides=[1, _STRIDE, _STRIDE, 1],
            padding="VALID",
        )
    # TensorFlow's own takes two and a half times as long as these nine products.
    flat = tf.reshape(upstream, [-1, kernel.shape[-1]])
    products = [
        tf.matmul(tf.reshape(plane, [-1, kernel.shape[2]]), flat, transpose_a=True)
        for plane in _planes(x)
    ]
    return tf.reshape(tf.stack(products), tf.shape(kernel))


@fused
def _planes(x: tf.Tensor) -> list[tf.Tensor]:
    """What each place of the kernel is multiplied with: nine of [B, T', F', C]."""
    frames, bins = tf.unstack((tf.shape(x)[1:3] - _SIDE) // _STRIDE * _STRIDE + 1)
    return [
        x[:, row : row + frames : _STRIDE, column : column + bins : _STRIDE]
        for row in range(_SIDE)
        for column in range(_SIDE)
    ]
