import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.subsampling import ConvSubsampling, subsampled, subsampled_without_border


@pytest.mark.parametrize(
    ("frames", "expected"), [(0, 0), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (100, 25)]
)
def test_frames_are_quartered_and_rounded_up(frames, expected):
    assert subsampled(tf.constant(frames)).numpy() == expected


@pytest.mark.parametrize("frames", range(1, 18))
def test_there_are_as_many_frames_as_counted(noise, frames):
    out = ConvSubsampling(2)(noise(1, frames, 4))
    assert out.shape == (1, subsampled(frames), 2)


@pytest.mark.parametrize(
    ("frames", "expected"), [(0, 0), (6, 0), (7, 1), (10, 1), (11, 2), (14, 2), (80, 19), (100, 24)]
)
def test_without_a_border_every_frame_takes_seven(frames, expected):
    assert subsampled_without_border(tf.constant(frames)).numpy() == expected


@pytest.mark.parametrize("frames", range(1, 18))
def test_without_a_border_there_are_as_many_frames_as_counted_but_one_at_least(noise, frames):
    layer = ConvSubsampling(2, "valid")
    out = layer(noise(1, frames, 7))
    assert out.shape == (1, max(1, layer.num_frames(frames)), 2)


@pytest.mark.parametrize(("length", "frames"), [(7, 8), (10, 11), (11, 30), (29, 30)])
def test_without_a_border_padding_changes_no_real_frame(noise, length, frames):
    layer, x = ConvSubsampling(3, "valid"), noise(1, frames, 9)
    kept = layer.num_frames(length)
    np.testing.assert_allclose(layer(x)[:, :kept], layer(x[:, :length]), atol=1e-6)


def test_without_a_border_a_frame_is_made_of_seven_by_hand():
    layer = ConvSubsampling(1, "valid")
    layer.build(tf.TensorShape([None, None, 7]))
    for conv in (layer.conv_1, layer.conv_2):
        conv.kernel.assign(tf.ones_like(conv.kernel))
    layer.project.set_weights([np.array([[2.0]]), np.array([1.0])])
    x = np.zeros([1, 7, 7], np.float32)
    x[0, 6, 6] = 3.0
    np.testing.assert_allclose(layer(x), [[[7.0]]])


def test_bins_too_few_without_a_border_are_named(noise):
    with pytest.raises(ValueError, match="at least 7 mel bins are needed; got F=6"):
        ConvSubsampling(2, "valid")(noise(1, 9, 6))


def test_an_unknown_border_is_named():
    with pytest.raises(ValueError, match="same or valid; got border='full'"):
        ConvSubsampling(2, "full")


def subsampling_of_ones():
    """One channel of four bins; all kernels are ones, the projection 2 x + 1."""
    layer = ConvSubsampling(1)
    layer.build(tf.TensorShape([None, None, 4]))
    for conv in (layer.conv_1, layer.conv_2):
        conv.kernel.assign(tf.ones_like(conv.kernel))
    layer.project.set_weights([np.array([[2.0]]), np.array([1.0])])
    return layer


def test_output_by_hand():
    # Windows over the bordered 4 x 4 ones count 4, 6, 6 and 9 of them; the second window
    # takes all four: 25, and 2 * 25 + 1.
    out = subsampling_of_ones()(tf.ones([1, 4, 4]))
    np.testing.assert_allclose(out, [[[51.0]]])


def test_padded_frames_count_as_zero_by_hand():
    # Windows over three rows of ones count 4, 6 and, where the last row is padding, 4 and 6.
    out = subsampling_of_ones()(tf.ones([1, 4, 4]), mask=tf.sequence_mask([3], 4))
    np.testing.assert_allclose(out, [[[2.0 * (4 + 6 + 4 + 6) + 1]]])


def test_a_bias_of_padded_frames_does_not_leak_through_the_second_convolution():
    layer = subsampling_of_ones()
    layer.conv_1.bias.assign([10.0])
    # One real frame: windows of 2 and 3 ones, plus 10 each; the next row is padding.
    out = layer(tf.ones([1, 4, 4]), mask=tf.sequence_mask([1], 4))
    np.testing.assert_allclose(out[:, :1], [[[2.0 * (12 + 13) + 1]]])


def test_negative_sums_are_cut_off():
    out = subsampling_of_ones()(-tf.ones([1, 4, 4]))
    np.testing.assert_allclose(out, [[[1.0]]])
