import numpy as np
import tensorflow as tf

from tfasr.models.feed_forward import FeedForward


def test_output_by_hand():
    layer = FeedForward(1)
    layer.build(tf.TensorShape([None, None, 2]))
    layer.up.set_weights([np.array([[1.0], [3.0]]), np.array([0.5])])
    layer.down.set_weights([np.array([[1.0, 2.0]]), np.array([0.5, 0.0])])
    # (1, 3) is normalised to (-1, 1), goes up to -1 + 3 + 0.5 = 2.5, and
    # silu(2.5) = 2.5 / (1 + exp(-2.5)) = 2.310354.
    expected = [[[2.310354 + 0.5, 2 * 2.310354]]]
    np.testing.assert_allclose(layer(tf.constant([[[1.0, 3.0]]])), expected, rtol=1e-4)


def test_dropout_follows_the_activation_and_the_projection():
    layer = FeedForward(400, dropout=0.5)
    layer.build(tf.TensorShape([None, None, 2]))
    layer.up.set_weights([np.zeros([2, 400]), np.full(400, 30.0)])
    layer.down.set_weights([np.full([400, 2], 1 / 12000), np.zeros(2)])
    # Each inner unit is 30, their mean over 30 is 1; half of the units and half of the outputs
    # are dropped, the others doubled.
    out = layer(tf.zeros([1, 200, 2]), seed=tf.constant([0, 1])).numpy()
    kept = out[out != 0]
    assert 0.4 < kept.size / out.size < 0.6
    np.testing.assert_allclose(kept.mean(), 2, atol=0.05)
    np.testing.assert_allclose(kept.std(), 2 / 400**0.5, rtol=0.3)


def test_without_a_seed_nothing_is_dropped(noise):
    layer, x = FeedForward(4, dropout=0.5), noise(1, 3, 4)
    np.testing.assert_array_equal(layer(x), layer(x))
    assert np.abs(layer(x)).min() > 0
