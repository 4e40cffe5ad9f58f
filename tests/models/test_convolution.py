import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate
from scipy.special import expit

from tfasr.models.convolution import ConvolutionModule, DepthwiseConv


def depthwise(kernel):
    layer = DepthwiseConv(len(kernel))
    layer.build(tf.TensorShape([None, None, len(kernel[0])]))
    layer.kernel.assign(kernel)
    return layer


def test_an_odd_kernel_looks_as_far_ahead_as_back_by_hand():
    x = tf.constant([[[1.0], [10.0], [100.0], [1000.0]]])
    out = depthwise([[3.0], [2.0], [1.0]])(x)[0, :, 0]
    np.testing.assert_allclose(out, [2 + 10, 3 + 20 + 100, 30 + 200 + 1000, 300 + 2000])


def test_an_even_kernel_looks_one_frame_farther_ahead_by_hand():
    x = tf.constant([[[1.0], [10.0], [100.0], [1000.0]]])
    out = depthwise([[4.0], [3.0], [2.0], [1.0]])(x)[0, :, 0]
    np.testing.assert_allclose(
        out, [3 + 20 + 100, 4 + 30 + 200 + 1000, 40 + 300 + 2000, 400 + 3000]
    )


def test_a_causal_kernel_looks_back_alone_by_hand():
    layer = DepthwiseConv(3, padding="causal")
    layer.build(tf.TensorShape([None, None, 1]))
    layer.kernel.assign([[3.0], [2.0], [1.0]])
    out = layer(tf.constant([[[1.0], [10.0], [100.0], [1000.0]]]))[0, :, 0]
    np.testing.assert_allclose(out, [1, 2 + 10, 3 + 20 + 100, 30 + 200 + 1000])


def test_an_unknown_padding_is_named():
    with pytest.raises(ValueError, match="padding must be same or causal; got padding='valid'"):
        DepthwiseConv(3, padding="valid")


@pytest.mark.parametrize(("size", "frames"), [(1, 4), (5, 9), (8, 9), (9, 4), (32, 50)])
def test_a_convolution_is_scipys_correlation_of_each_channel(noise, size, frames):
    x, kernel = noise(2, frames, 3), noise(size, 3)
    before, after = (size - 1) // 2, size // 2
    padded = np.pad(x, [(0, 0), (before, after), (0, 0)])
    expected = np.stack(
        [
            [correlate(row[:, channel], kernel[:, channel], "valid") for channel in range(3)]
            for row in padded
        ]
    )
    np.testing.assert_allclose(
        depthwise(kernel)(x), expected.transpose(0, 2, 1), rtol=1e-5, atol=1e-5
    )


def test_a_bias_is_added_to_each_channel_of_the_convolution(noise):
    layer, x = DepthwiseConv(3, use_bias=True), noise(1, 4, 2)
    without = layer(x).numpy()
    layer.bias.assign([1.0, -2.0])
    np.testing.assert_allclose(layer(x), without + np.array([1.0, -2.0]), atol=1e-6)


def test_only_a_module_that_asks_for_it_has_a_bias_after_its_depthwise_convolution():
    names = []
    for use_bias in (False, True):
        layer = ConvolutionModule(3, norm_groups=2, use_bias=use_bias)
        layer.build(tf.TensorShape([None, None, 4]))
        names.append({weight.name for weight in layer.weights})
    assert names[1] - names[0] == {"depthwise/bias:0"}


def module_with_known_middle(norm):
    """Whatever comes in, the depthwise convolution sees ones and gives 2, 3, 2 of 3 frames."""
    layer = ConvolutionModule(3, norm, 1)
    layer.build(tf.TensorShape([None, None, 2]))
    # The gate lets half of 2 pass.
    layer.pointwise_in.set_weights([np.zeros([2, 4]), np.array([2.0, 2.0, 0.0, 0.0])])
    layer.depthwise.kernel.assign(tf.ones([3, 2]))
    layer.pointwise_out.set_weights([np.array([[1.0, 0.0], [0.0, 10.0]]), np.array([0.0, 1.0])])
    return layer


def test_output_with_group_normalisation_by_hand(noise):
    # 2, 3, 2 have mean 7/3 and variance 2/9.
    normal = np.array([-1, 2, -1]) / 2**0.5
    silu = normal * expit(normal)
    out = module_with_known_middle("group")(noise(1, 3, 2))
    np.testing.assert_allclose(out[0], np.stack([silu, 10 * silu + 1], 1), rtol=1e-4)


def test_output_with_batch_normalisation_by_hand(noise):
    layer = module_with_known_middle("batch")
    layer.depthwise_norm.moving_mean.assign([2.0, 2.0])
    layer.depthwise_norm.moving_variance.assign([0.249, 0.249])
    # 0, 1, 0 over a deviation of a half.
    silu = np.array([0, 2 * expit(2), 0])
    out = layer(noise(1, 3, 2))
    np.testing.assert_allclose(out[0], np.stack([silu, 10 * silu + 1], 1), rtol=1e-5, atol=1e-6)


def test_output_with_a_norm_of_each_frame_by_hand(noise):
    layer = module_with_known_middle("layer")
    # 2, 3, 2 in one channel, and ten times as much in the other: half a distance from the mean.
    layer.depthwise.kernel.assign([[1.0, 10.0]] * 3)
    silu = np.array([-expit(-1.0), 10 * expit(1.0) + 1])
    np.testing.assert_allclose(layer(noise(1, 3, 2))[0], [silu] * 3, rtol=1e-4)


def test_output_with_cumulative_group_normalisation_by_hand(noise):
    # Of 2 alone; of 2 and 3; of 2, 3 and 2, with mean 7/3 and variance 2/9.
    normal = np.array([0, 1, -1 / 2**0.5])
    silu = normal * expit(normal)
    out = module_with_known_middle("cumulative_group")(noise(1, 3, 2))
    np.testing.assert_allclose(out[0], np.stack([silu, 10 * silu + 1], 1), rtol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "cumulative_group"])
@pytest.mark.parametrize("frame", [2, 5])
def test_a_causal_module_hears_no_later_frame(noise, with_noise_weights, norm, frame):
    layer = with_noise_weights(ConvolutionModule(3, norm, 2, padding="causal"), (None, None, 8))
    x, other = noise(1, 7, 8), noise(1, 7, 8, seed=1)
    other[:, : frame + 1] = x[:, : frame + 1]
    one, two = layer(x).numpy(), layer(other).numpy()
    np.testing.assert_allclose(two[:, : frame + 1], one[:, : frame + 1], atol=1e-6)
    assert np.abs(two - one)[:, frame + 1 :].min() > 0


def test_an_unknown_norm_is_named():
    with pytest.raises(ValueError, match="layer or cumulative_group; got norm='instance'"):
        ConvolutionModule(3, "instance")


def test_a_seed_makes_batch_normalisation_learn(noise):
    layer = module_with_known_middle("batch")
    layer(noise(1, 3, 2), seed=tf.constant([0, 1]))
    np.testing.assert_allclose(
        layer.depthwise_norm.moving_mean, np.full(2, 0.01 * 7 / 3), rtol=1e-4
    )


def test_inference_leaves_the_moving_averages(noise):
    layer = module_with_known_middle("batch")
    layer(noise(1, 3, 2))
    np.testing.assert_array_equal(layer.depthwise_norm.moving_mean, np.zeros(2))


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = ConvolutionModule(3, "group", 2, dropout=0.5), noise(1, 20, 8)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    # Half of 160 elements, give or take five standard deviations.
    assert 48 < np.sum(one == 0) < 112


def test_groups_that_do_not_divide_the_width_are_named(noise):
    with pytest.raises(ValueError, match="groups must divide C; got groups=3, C=8"):
        ConvolutionModule(3, "group", 3)(noise(1, 2, 8))


def test_missing_channels_leave_whole_groups(noise):
    told = "whole groups; got missing_channels=3, norm_groups=4, D=8"
    with pytest.raises(ValueError, match=told):
        ConvolutionModule(3, "group", 4, missing_channels=3)(noise(1, 2, 8))


def test_missing_channels_leave_a_channel(noise):
    with pytest.raises(ValueError, match="leave a channel; got missing_channels=8, D=8"):
        ConvolutionModule(3, "layer", missing_channels=8)(noise(1, 2, 8))
