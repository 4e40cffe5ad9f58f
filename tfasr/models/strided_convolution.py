"""The two convolutions of subsampling, as products of matrices where that is faster."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfasr.models.fusion import is_inferring

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


def subsampled_patches(
    patches: tf.Tensor, first: tf.Tensor, second: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Two 3x3 convolutions of stride 2, each with ReLU.

    What the first gives is the largest tensor of a whole training step, and quick to compute: for
    the gradient it is computed anew, one utterance after the other.

    Args:
        patches: [B, T + 2, F + 2, 10] float, those of `bordered_patches`.
        first: [10, C], kernel and bias of the first.
        second: [3, 3, C, D], kernel of the second.
        bias: [D], that of the second.

    Returns:
        [B, T / 2, F / 2, D], halves rounded up.
    """
    if is_inferring():
        return _convolved(_first(patches, first), second, bias)

    @tf.custom_gradient
    def convolve(
        patches: tf.Tensor, first: tf.Tensor, second: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        y = _convolved(_first(patches, first), second, bias)

        def gradient(upstream: tf.Tensor) -> Any:
            upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=y)
            of_first, of_second = _both_kernel_gradients(patches, first, second, upstream)
            # Is left out of a graph where nobody asks for it.
            below = _input_gradient(_first(patches, first), second, upstream)
            of_patches = tf.matmul(below, first, transpose_b=True)
            return of_patches, of_first, of_second, tf.reduce_sum(upstream, [0, 1, 2])

        return y, gradient

    kernels = (tf.convert_to_tensor(kernel) for kernel in (first, second, bias))
    return convolve(patches, *kernels)


def _first(patches: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    y = tf.nn.relu(tf.matmul(tf.reshape(patches, [-1, kernel.shape[0]]), kernel))
    return tf.reshape(y, [*tf.unstack(tf.shape(patches)[:2]), patches.shape[2], kernel.shape[1]])


def _convolved(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, _STRIDE, "VALID"), bias))


def _both_kernel_gradients(
    patches: tf.Tensor, first: tf.Tensor, second: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the gradients of both kernels over the utterances, one after the other."""
    ends = [[0, tf.shape(patches)[1] % _STRIDE], [0, patches.shape[2] % _STRIDE]]
    even = [1, None, patches.shape[2] + ends[1][1], patches.shape[3]]

    def of_utterance(
        index: tf.Tensor, of_first: tf.Tensor, of_second: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        here = tf.pad(patches[index, None], [[0, 0], *ends, [0, 0]])
        here.set_shape(even)
        above = upstream[index, None]
        x = _first(here, first)
        kernel = _kernel_gradient(x, second, above)
        # Nine planes of x are gone before its gradient is there.
        with tf.control_dependencies([kernel]):
            below = _input_gradient(x, second, above)
        rows, columns = (tf.reshape(each, [-1, each.shape[-1]]) for each in (here, below))
        products = tf.matmul(rows, columns, transpose_a=True)
        return index + 1, of_first + products, of_second + kernel

    count = tf.shape(patches)[0]
    _, of_first, of_second = tf.while_loop(
        lambda index, *_: index < count,
        of_utterance,
        (0, tf.zeros_like(first), tf.zeros_like(second)),
        parallel_iterations=1,
    )
    return of_first, of_second


def _input_gradient(x: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    below = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(x),
        filter=kernel,
        out_backprop=upstream,
        strides=[1, _STRIDE, _STRIDE, 1],
        padding="VALID",
    )
    return tf.raw_ops.ReluGrad(gradients=below, features=x)


def _kernel_gradient(x: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """Gives the gradient of the second kernel; `x` has even numbers of frames and bins."""
    # TensorFlow's own takes up to three times as long as these nine products, and with slices of
    # stride two they would too.
    frames, bins = tf.unstack(tf.shape(upstream)[1:3])
    by_twos = tf.reshape(x, [-1, frames + 1, _STRIDE, bins + 1, _STRIDE, x.shape[-1]])
    flat = tf.reshape(upstream, [-1, kernel.shape[-1]])
    products = []
    for row, column in np.ndindex(_SIDE, _SIDE):
        top, left = row // _STRIDE, column // _STRIDE
        plane = by_twos[:, top : top + frames, row % _STRIDE, left : left + bins, column % _STRIDE]
        seen = tf.reshape(plane, [-1, x.shape[-1]])
        products.append(tf.matmul(seen, flat, transpose_a=True))
    return tf.reshape(tf.stack(products), tf.shape(kernel))
