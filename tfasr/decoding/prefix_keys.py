"""Hashes that tell equal prefixes in a beam."""

import tensorflow as tf

# Two odd 64-bit constants of the "splitmix64" finaliser (Steele et al. 2014), as signed numbers.
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def extended_key(key: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Hashes a prefix's hash and one more token; integers wrap.

    Args:
        key: [...] int64, of the prefix; 0 for the empty one.
        token: [...] int32.

    Returns:
        [...] int64.
    """
    x = key + tf.cast(token + 1, tf.int64) * MULTIPLIERS[0]
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        x = (x ^ _shifted(x, shift)) * multiplier
    return x ^ _shifted(x, 31)


def _shifted(x: tf.Tensor, places: int) -> tf.Tensor:
    # TensorFlow's own shift of a signed number copies the sign.
    return tf.bitwise.right_shift(x, tf.constant(places, tf.int64)) & (2 ** (64 - places) - 1)
