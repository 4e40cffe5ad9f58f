"""Dropout whose draws are counted."""

from collections.abc import Callable, Iterator

import tensorflow as tf

from tfasr.models.fusion import fused


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
    """Zeroes elements with probability `rate` and scales the others by `1 / (1 - rate)`.

    Keras's layer draws from a generator with state of its own, so a resumed run would see
    other masks; here the seed alone decides.

    Args:
        x: Any shape, float.
        rate: In [0, 1).
        seed: [2] int32; None turns dropout off.

    Returns:
        Like `x`.
    """
    if seed is None or rate == 0:
        return x
    draws = draws_like(x, seed)

    @tf.custom_gradient
    def drop(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return kept(x, draws, rate=rate), lambda upstream: kept(upstream, draws, rate=rate)

    return drop(x)


def draws_like(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws a byte for each element of `x`, of any shape: uint8, uniform."""
    # A quarter of the bits that a float would take.
    size = tf.size(x)
    words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.int32)
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(x))


@fused
def kept(x: tf.Tensor, draws: tf.Tensor, rate: float) -> tf.Tensor:
    """Zeroes the elements whose draw is low, and scales the others; also its own gradient.

    The rate is met to 1/256, for which the scale accounts.

    Args:
        x: Any shape, float.
        draws: As `draws_like` gives them.
        rate: In (0, 1).
    """
    threshold = min(round(rate * 256), 255)
    high = draws >= tf.constant(threshold, tf.uint8)
    return tf.where(high, x * (256 / (256 - threshold)), tf.zeros([], x.dtype))


def split_seed(seed: tf.Tensor | None) -> Iterator[tf.Tensor | None]:
    """Yields independent seeds made from one, without end; None yields None."""
    count = 0
    while True:
        yield None if seed is None else tf.random.experimental.stateless_fold_in(seed, count)
        count += 1
