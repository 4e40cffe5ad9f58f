import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.fusion import fusing
from tfasr.models.strided_convolution import bordered_patches, subsampled_patches


def test_patches_by_hand():
    x = tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    out = bordered_patches(x, tf.constant([[True, True, True]]))
    assert out.shape == (1, 4, 3, 10)
    np.testing.assert_array_equal(out[0, 1, 1], [0, 0, 0, 0, 1, 2, 0, 3, 4, 1])
    np.testing.assert_array_equal(out[0, 2, 1], [0, 3, 4, 0, 5, 6, 0, 0, 0, 1])
    border = np.ones([4, 3], bool)
    border[1:3, 1] = False
    np.testing.assert_array_equal(out[0][border], np.zeros([10, 10]))


def test_patches_neither_see_nor_stand_on_padded_frames():
    x = tf.ones([1, 5, 2])
    out = bordered_patches(x, tf.constant([[True, True, False, False, False]]))
    np.testing.assert_array_equal(out[0, 1, 1], [0, 0, 0, 0, 1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(out[0, 2:], np.zeros([3, 3, 10]))


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize(("frames", "bins"), [(1, 1), (6, 5), (9, 8)])
def test_convolutions_and_their_gradients_are_tensorflow_s(noise, fuse, frames, bins):
    patches = bordered_patches(
        noise(2, frames, bins), tf.sequence_mask([frames, (frames + 1) // 2], frames)
    )
    given = [patches, noise(10, 4, seed=1), noise(3, 3, 4, 5, seed=2), noise(5, seed=3)]

    def plain(patches, first, second, bias):
        y = tf.nn.relu(tf.einsum("btfp,pc->btfc", patches, first))
        return tf.nn.relu(tf.nn.conv2d(y, second, 2, "VALID") + bias)

    def with_gradients(convolve, *given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = convolve(*given)
            cost = tf.reduce_mean(y * tf.cos(y))
        return y, *tape.gradient(cost, given)

    @tf.function(autograph=False)
    def fused(*given):
        with fusing():
            return with_gradients(subsampled_patches, *given)

    given = [tf.constant(one) for one in given]
    ours = fused(*given) if fuse else with_gradients(subsampled_patches, *given)
    for one, other in zip(ours, with_gradients(plain, *given), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
