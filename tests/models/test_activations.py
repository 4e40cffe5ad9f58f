import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.activations import gated, silu
from tfasr.models.dropout import dropout

SEED = tf.constant([3, 7])


def value_and_gradient(function, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x, upstream)


def test_silu_by_hand():
    out = silu(tf.constant([0.0, 2.0, -100.0]))
    np.testing.assert_allclose(out, [0, 2 / (1 + np.exp(-2)), 0], atol=1e-6)


def test_silu_and_its_dropout_have_the_gradient_of_the_two_apart(noise):
    x, upstream = tf.constant(3 * noise(2, 5, 8)), tf.constant(noise(2, 5, 8, seed=1))
    ours = value_and_gradient(lambda x: silu(x, 0.25, SEED), x, upstream)
    plain = value_and_gradient(lambda x: dropout(tf.nn.silu(x), 0.25, SEED), x, upstream)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_silu_drops_what_dropout_of_the_same_seed_does(noise):
    x = tf.constant(1 + noise(40, 50) ** 2)
    np.testing.assert_array_equal(silu(x, 0.3, SEED) == 0, dropout(x, 0.3, SEED) == 0)


def test_gates_by_hand():
    x = tf.constant([[[3.0, 5.0, 0.0, 100.0], [1.0, 1.0, 1.0, 1.0]]])
    out = gated(x, tf.constant([[True, False]]))
    np.testing.assert_allclose(out, [[[1.5, 5.0], [0.0, 0.0]]])


def test_gates_have_the_gradient_of_the_equation(noise):
    x, upstream = tf.constant(noise(2, 5, 8)), tf.constant(noise(2, 5, 4, seed=1))
    mask = tf.sequence_mask([5, 3])

    def plain(x):
        value, gate = tf.split(x, 2, -1)
        return value * tf.sigmoid(gate) * tf.cast(mask, tf.float32)[..., None]

    ours = value_and_gradient(lambda x: gated(x, mask), x, upstream)
    for one, other in zip(ours, value_and_gradient(plain, x, upstream), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("activation", [silu, lambda x: gated(x, tf.ones([2, 3], tf.bool))])
def test_what_is_computed_in_float32_is_given_as_it_came(noise, activation):
    wide = activation(tf.constant(noise(2, 3, 8)))
    narrow = activation(tf.cast(noise(2, 3, 8), tf.bfloat16))
    assert narrow.dtype == tf.bfloat16
    # Rounding to 8 bits, before and after.
    np.testing.assert_allclose(tf.cast(narrow, tf.float32), wide, rtol=2e-2, atol=1e-2)
