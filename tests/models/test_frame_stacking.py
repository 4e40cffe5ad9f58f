import numpy as np
import tensorflow as tf

from tfasr.models.feed_forward import FeedForward
from tfasr.models.frame_stacking import StackedFeedForward, stacked


def test_neighbours_are_joined_by_hand():
    x = tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]])
    np.testing.assert_array_equal(stacked(x, None, 2), [[[1, 2, 3, 4], [5, 6, 7, 8]]])


def test_frames_that_are_missing_are_zeros():
    x = tf.constant([[[1.0], [2.0], [3.0], [4.0]], [[5.0], [6.0], [7.0], [8.0]]])
    out = stacked(x, tf.sequence_mask([4, 2], 4), 3)
    np.testing.assert_array_equal(out, [[[1, 2, 3], [4, 0, 0]], [[5, 6, 0], [0, 0, 0]]])


def test_no_frame_at_all_is_none_stacked():
    assert stacked(tf.zeros([2, 0, 3]), None, 2).shape == (2, 0, 6)


def test_single_frames_stacked_are_a_feed_forward_s(noise, with_noise_weights):
    one = with_noise_weights(FeedForward(12), (None, None, 8))
    other = with_noise_weights(StackedFeedForward(12, 1), (None, None, 8))
    x = noise(2, 5, 8)
    np.testing.assert_array_equal(other(x), one(x))


def test_the_inner_units_read_all_stacked_frames_and_give_one():
    layer = StackedFeedForward(12, 3)
    layer.build(tf.TensorShape([None, None, 24]))
    assert layer.norm.gamma.shape == (24,)
    assert layer.up.kernel.shape == (24, 12)
    assert layer.down.kernel.shape == (12, 8)
