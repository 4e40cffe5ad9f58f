from itertools import product

import numpy as np
import tensorflow as tf

from tfasr.decoding.prefix_keys import extended_key


def by_hand(key, token):
    """The same with Python's unbounded integers."""
    x = (key + (token + 1) * 0xBF58476D1CE4E5B9) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def test_keys_are_those_of_unbounded_integers():
    key = tf.zeros([2], tf.int64)
    expected = [0, 0]
    for tokens in ([0, 3], [7, 0], [1023, 2]):
        key = extended_key(key, tf.constant(tokens))
        expected = [by_hand(old, token) for old, token in zip(expected, tokens, strict=True)]
    np.testing.assert_array_equal(key.numpy().view(np.uint64), np.array(expected, np.uint64))


def test_prefixes_have_keys_of_their_own():
    prefixes = np.array(list(product(range(16), repeat=3)), np.int32)
    key = tf.zeros([len(prefixes)], tf.int64)
    for tokens in prefixes.T:
        key = extended_key(key, tf.constant(tokens))
    assert len(set(key.numpy().tolist())) == len(prefixes)
