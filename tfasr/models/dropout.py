"""Dropout whose draws are counted."""

from collections.abc import Iterator

import tensorflow as tf


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
    # One random byte an element decides: a quarter of the bits that a float would take, and
    # the rate is met to 1/256, for which the scale accounts.
    threshold = min(round(rate * 256), 255)
    size = tf.size(x)
    words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.int32)
    draws = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size]
    kept = tf.reshape(draws >= tf.constant(threshold, tf.uint8), tf.shape(x))
    return tf.where(kept, x * (256 / (256 - threshold)), tf.zeros([], x.dtype))


def split_seed(seed: tf.Tensor | None) -> Iterator[tf.Tensor | None]:
    """Yields independent seeds made from one, without end; None yields None."""
    count = 0
    while True:
        yield None if seed is None else tf.random.experimental.stateless_fold_in(seed, count)
        count += 1
