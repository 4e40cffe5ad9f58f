import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.block import MODULES, ConformerBlock


def test_output_by_hand():
    layer = ConformerBlock(2, (4, 4), 3, norm_groups=2)
    layer.build(tf.TensorShape([None, None, 4]))
    for weight in layer.weights:
        weight.assign(tf.zeros_like(weight))
    layer.norm.gamma.assign(tf.ones([4]))
    # Each module adds its last bias alone, the feed-forward modules half of it: 1, 2, 3, 4,
    # with mean 5/2 and variance 5/4.
    layer.feed_forward_1.down.bias.assign([2.0, 0.0, 0.0, 0.0])
    layer.attention.output_dense.bias.assign([0.0, 2.0, 0.0, 0.0])
    layer.convolution.pointwise_out.bias.assign([0.0, 0.0, 3.0, 0.0])
    layer.feed_forward_2.down.bias.assign([0.0, 0.0, 0.0, 8.0])
    expected = (np.array([1, 2, 3, 4]) - 2.5) / 1.25**0.5
    np.testing.assert_allclose(layer(tf.zeros([1, 1, 4]))[0, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("conv_norm", ["group", "batch"])
def test_output_is_equation_1(noise, with_noise_weights, conv_norm):
    layer = with_noise_weights(ConformerBlock(2, (12, 6), 3, conv_norm, 4), (None, None, 8))
    x, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([4, 6], 6)
    halved = x + layer.feed_forward_1(x) / 2
    attended = halved + layer.attention(halved, mask=mask)
    convolved = attended + layer.convolution(attended, mask=mask)
    expected = layer.norm(convolved + layer.feed_forward_2(convolved) / 2)
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-5)


def test_the_feed_forward_modules_may_differ_in_units():
    layer = ConformerBlock(2, (12, 6), 3, norm_groups=4)
    layer.build(tf.TensorShape([None, None, 8]))
    assert layer.feed_forward_1.up.kernel.shape == (8, 12)
    assert layer.feed_forward_2.up.kernel.shape == (8, 6)


def test_modules_are_named_as_they_are():
    layer = ConformerBlock(2, (4, 4), 3)
    assert [getattr(layer, module).name for module in MODULES] == list(MODULES)


def test_the_rate_of_dropout_reaches_every_module():
    layer = ConformerBlock(2, (4, 4), 3, dropout=0.3)
    rates = [getattr(layer, module).dropout for module in MODULES[:-1]]
    assert rates == [0.3] * 4


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = ConformerBlock(2, (12, 6), 3, norm_groups=4, dropout=0.3), noise(1, 6, 8)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide D; got num_heads=3, D=8"),
        ({"num_heads": 2, "norm_groups": 3}, "groups must divide C; got groups=3, C=8"),
    ],
)
def test_settings_that_do_not_divide_the_width_are_named(noise, settings, message):
    with pytest.raises(ValueError, match=message):
        ConformerBlock(ff_units=(4, 4), conv_kernel=3, **settings)(noise(1, 2, 8))
