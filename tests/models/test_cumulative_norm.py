import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.cumulative_norm import CumulativeGroupNorm, Statistics, cumulative_moments
from tfasr.models.normalization import MaskedGroupNorm


def test_cumulative_group_norm_by_hand():
    x = np.array([[[1.0, 3.0], [5.0, 7.0]]])
    # Of 1 and 3: mean 2, variance 1; of all four: mean 4, variance 5.
    expected = [[[-1, 1], [1 / 5**0.5, 3 / 5**0.5]]]
    np.testing.assert_allclose(CumulativeGroupNorm(1)(x), expected, rtol=1e-4)


def test_cumulative_group_norm_scales_and_shifts_real_frames_only():
    layer = CumulativeGroupNorm(2)
    layer.build((None, None, 2))
    layer.set_weights([np.array([2.0, 3.0]), np.array([0.5, 1.0])])
    x = np.array([[[1.0, 10.0], [3.0, 30.0], [50.0, 7.0]]])
    out = layer(x, mask=tf.constant([[True, True, False]]))
    np.testing.assert_allclose(out, [[[0.5, 1], [2.5, 4], [0, 0]]], rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
def test_the_last_frame_is_normalised_as_with_group_norm(noise, with_noise_weights, groups):
    cumulative = with_noise_weights(CumulativeGroupNorm(groups), (None, None, 8))
    grouped = with_noise_weights(MaskedGroupNorm(groups), (None, None, 8))
    x = 3 + noise(2, 7, 8)
    for frames in range(1, 8):
        out = cumulative(x)[:, frames - 1]
        np.testing.assert_allclose(out, grouped(x[:, :frames])[:, -1], atol=1e-5)


def test_cumulative_groups_that_do_not_divide_the_channels_are_named(noise):
    with pytest.raises(ValueError, match="groups must divide C; got groups=3, C=8"):
        CumulativeGroupNorm(3)(noise(1, 2, 8))


@pytest.fixture(scope="module")
def an_hour(noise):
    """Frames of 40 ms far from zero, and the last of them normalised in float64."""
    x = 30 + noise(1, 90_000, 4)
    exact = x.astype(np.float64).reshape(1, -1, 2, 2)
    mean = exact.mean((1, 3), keepdims=True)
    deviation = (exact.var((1, 3), keepdims=True) + 1e-5) ** 0.5
    return x, ((exact - mean) / deviation).reshape(1, -1, 4)[:, -8:]


def test_cumulative_group_norm_is_exact_over_an_hour(an_hour):
    x, expected = an_hour
    np.testing.assert_allclose(CumulativeGroupNorm(2)(x)[:, -8:], expected, atol=1e-4)


def test_steps_of_cumulative_group_norm_are_exact_over_an_hour(an_hour):
    x, expected = an_hour
    layer = CumulativeGroupNorm(2)
    layer.build((None, None, 4))
    mask = tf.ones([1, 8], tf.bool)

    def step(before, chunk):
        heard, _, mean, variance = before
        out, after = layer.step(chunk, mask, heard, {"mean": mean, "variance": variance})
        return heard + 8, out, after["mean"], after["variance"]

    nothing = layer.start(1)
    first = tf.zeros([1]), tf.zeros([1, 8, 4]), nothing["mean"], nothing["variance"]
    chunks = tf.reshape(x, [-1, 1, 8, 4])
    hear = tf.function(lambda chunks: tf.foldl(step, chunks, first), autograph=False)
    np.testing.assert_allclose(hear(chunks)[1], expected, atol=1e-4)


def test_moments_follow_even_where_a_count_in_float32_does_not():
    # 2^24 and one are 2^24; two more frames at distance 4096 move the mean by 2 * 2^-12.
    before = Statistics(tf.constant([2.0**24]), tf.constant([[1.0]]), tf.constant([[4.0]]))
    frames = tf.fill([1, 2, 1], 4097.0)
    mask = tf.ones([1, 2], tf.bool)
    mean, variance = cumulative_moments(frames, tf.zeros([1, 2, 1]), mask, before)
    np.testing.assert_allclose(mean[0, -1], [1 + 2 * 2.0**-12], rtol=1e-6)
    np.testing.assert_allclose(variance[0, -1], [4 + 2 * (1 - 4 * 2.0**-24)], rtol=1e-6)
