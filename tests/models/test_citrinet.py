import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from tfasr.models.citrinet import (
    CitrinetBlock,
    CitrinetEnd,
    NormalisedPointwise,
    SeparableConv,
    SqueezeExcite,
)


def test_a_squeeze_by_hand():
    layer = SqueezeExcite(2)
    layer.build(tf.TensorShape([None, None, 2]))
    layer.down.kernel.assign([[1.0], [2.0]])
    layer.up.kernel.assign([[1.0, -1.0]])
    x = tf.constant([[[1.0, 0.0], [3.0, 2.0], [99.0, 99.0]]])
    # Means 2 and 1 over the two real frames: 2 + 2 * 1 = 4 inside.
    out = layer(x, mask=tf.constant([[True, True, False]]))
    gate = np.array([expit(4), expit(-4)])
    np.testing.assert_allclose(out[0, :2], np.array([[1, 0], [3, 2]]) * gate, rtol=1e-5)


def test_a_squeeze_that_does_not_divide_the_channels_is_named(noise):
    with pytest.raises(ValueError, match="ratio must divide C; got ratio=3, C=8"):
        SqueezeExcite(3)(noise(1, 2, 8))


def test_a_separable_convolution_is_depthwise_then_pointwise_then_norm(noise, with_noise_weights):
    layer = with_noise_weights(SeparableConv(6, 3, 1, "group", 2), (None, None, 8))
    x = tf.constant(noise(2, 5, 8))
    expected = layer.norm(layer.depthwise(x) @ layer.pointwise.kernel)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("frames", [4, 5])
def test_a_stride_starts_at_the_first_frame_whatever_the_length(noise, frames):
    layer = SeparableConv(1, 3, 2, "batch")
    layer.build(tf.TensorShape([None, None, 1]))
    layer.depthwise.kernel.assign([[1.0], [10.0], [100.0]])
    layer.pointwise.kernel.assign([[1.001**0.5]])
    # The moving averages of a fresh norm are 0 and 1; its epsilon is 0.001.
    x = np.arange(1.0, frames + 1)[None, :, None]
    first = [10.0 * 1 + 100 * 2, 2 + 10 * 3 + 100 * 4]
    np.testing.assert_allclose(layer(x)[0, :2, 0], first, rtol=1e-5)
    assert layer(x).shape[1] == -(-frames // 2)


def test_the_mask_is_strided_with_the_frames():
    mask = tf.sequence_mask([0, 1, 2, 3, 5], 5)
    shorter = CitrinetBlock(3, 2).compute_mask(None, mask)
    assert tf.reduce_sum(tf.cast(shorter, tf.int32), 1).numpy().tolist() == [0, 1, 1, 2, 3]


def test_a_mega_block_adds_its_residual_before_the_last_activation(noise, with_noise_weights):
    layer = with_noise_weights(CitrinetBlock(3, 2, 2, 2, "group", 4), (None, None, 8))
    x, mask = tf.constant(noise(2, 7, 8)), tf.sequence_mask([5, 7], 7)
    x = tf.where(mask[:, :, None], x, 0.0)
    y = tf.nn.relu(layer.convolutions[0](x, mask=mask))
    y = layer.squeeze(layer.convolutions[1](y, mask=mask), mask=mask[:, ::2])
    expected = tf.nn.relu(y + layer.residual(x[:, ::2], mask=mask[:, ::2]))
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-6)


def test_only_the_last_convolution_of_a_mega_block_strides():
    layer = CitrinetBlock(3, 2, 3, 2, "batch")
    layer.build(tf.TensorShape([None, None, 4]))
    assert [convolution.settings["stride"] for convolution in layer.convolutions] == [1, 1, 2]


def test_an_end_is_squeezed_and_cut_off_at_zero(noise, with_noise_weights):
    layer = with_noise_weights(CitrinetEnd(6, 3, 2, "group", 2), (None, None, 8))
    x = tf.constant(noise(2, 5, 8))
    expected = tf.nn.relu(layer.squeeze(layer.convolution(x)))
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("layer", [CitrinetBlock(3, norm="batch"), CitrinetEnd(8, 3, norm="batch")])
def test_a_seed_makes_batch_normalisation_learn(noise, layer):
    layer(noise(2, 5, 8), seed=tf.constant([0, 1]))
    moving = [weight for weight in layer.weights if "moving_mean" in weight.name]
    assert len(moving) == (6 if isinstance(layer, CitrinetBlock) else 1)
    assert all(np.abs(mean).max() > 0 for mean in moving)


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = CitrinetBlock(3, 1, 2, norm_groups=4, dropout=0.3), noise(1, 6, 8)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_an_unknown_norm_is_named():
    with pytest.raises(ValueError, match='"group" or "batch"; got norm=\'layer\''):
        NormalisedPointwise(4, "layer")
