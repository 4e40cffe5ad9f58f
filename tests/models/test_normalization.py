import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.normalization import (
    FrameNorm,
    LayerNorm,
    MaskedBatchNorm,
    MaskedGroupNorm,
    frames_or_all,
)


def test_no_mask_is_a_mask_of_all_frames(noise):
    np.testing.assert_array_equal(frames_or_all(None, noise(2, 3, 4)), np.ones([2, 3], bool))


def test_a_mask_is_taken_as_it_is(noise):
    mask = tf.constant([[True, False]])
    assert frames_or_all(mask, noise(1, 2, 4)) is mask


def gradients_of(layer, x, upstream, **inputs):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **inputs)
    return tape.gradient(y, [x, *layer.trainable_variables], upstream)


def test_layer_norm_by_hand():
    x = np.array([[1.0, 3.0], [5.0, 5.0]])  # mean 2, variance 1; and nothing but its mean
    np.testing.assert_allclose(LayerNorm()(x), [[-1, 1], [0, 0]], atol=1e-5)


def test_layer_norm_and_its_gradients_are_keras_s(noise, with_noise_weights):
    ours = with_noise_weights(LayerNorm(), (None, None, 8))
    keras_s = keras.layers.LayerNormalization(epsilon=1e-5)
    keras_s.build((None, None, 8))
    keras_s.set_weights(ours.get_weights())
    x, upstream = tf.constant(3 + noise(2, 7, 8)), tf.constant(noise(2, 7, 8, seed=1))
    np.testing.assert_allclose(ours(x), keras_s(x), atol=1e-5)
    both = (gradients_of(layer, x, upstream) for layer in (ours, keras_s))
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_has_the_gradients_of_its_equation(noise, with_noise_weights, groups):
    layer = with_noise_weights(MaskedGroupNorm(groups), (None, None, 8))
    x, upstream = tf.constant(3 + noise(2, 7, 8)), tf.constant(noise(2, 7, 8, seed=1))
    mask = tf.sequence_mask([7, 4])

    def plain(x):
        real = tf.cast(mask, tf.float32)[:, :, None, None]
        y = tf.reshape(x, [2, 7, groups, 8 // groups])
        mean, variance = tf.nn.weighted_moments(y, [1, 3], real, keepdims=True)
        y = tf.reshape((y - mean) * tf.math.rsqrt(variance + 1e-5), [2, 7, 8])
        return (y * layer.gamma + layer.beta) * real[..., 0]

    plain.trainable_variables = layer.trainable_variables
    both = gradients_of(layer, x, upstream, mask=mask), gradients_of(plain, x, upstream)
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_group_norm_by_hand():
    x = np.array([[[1.0, 3.0], [5.0, 7.0]]])  # one group: mean 4, variance 5
    np.testing.assert_allclose(MaskedGroupNorm(1)(x), (x - 4) / 5**0.5, rtol=1e-5)


def test_group_norm_leaves_padding_out_by_hand():
    x = np.array([[[1.0, 10.0], [3.0, 30.0], [50.0, 7.0]]])
    out = MaskedGroupNorm(2)(x, mask=tf.constant([[True, True, False]]))
    # Groups (1, 3) and (10, 30).
    np.testing.assert_allclose(out, [[[-1, -1], [1, 1], [0, 0]]], rtol=1e-5)


def test_group_norm_scales_and_shifts_real_frames_only():
    layer = MaskedGroupNorm(2)
    layer.build((None, None, 2))
    layer.set_weights([np.array([2.0, 3.0]), np.array([0.5, 1.0])])
    x = np.array([[[1.0, 10.0], [3.0, 30.0], [50.0, 7.0]]])
    out = layer(x, mask=tf.constant([[True, True, False]]))
    np.testing.assert_allclose(out, [[[-1.5, -2], [2.5, 4], [0, 0]]], rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_group_norm_without_padding_is_keras_s(noise, with_noise_weights, groups):
    ours = with_noise_weights(MaskedGroupNorm(groups), (None, None, 8))
    keras_s = keras.layers.GroupNormalization(groups, epsilon=1e-5)
    keras_s.build((None, None, 8))
    keras_s.set_weights(ours.get_weights())
    x = 3 + noise(2, 7, 8)
    np.testing.assert_allclose(ours(x), keras_s(x), atol=1e-5)


def test_groups_that_do_not_divide_the_channels_are_named(noise):
    with pytest.raises(ValueError, match="groups must divide C; got groups=3, C=8"):
        MaskedGroupNorm(3)(noise(1, 2, 8))


def test_batch_norm_uses_its_moving_averages_by_hand():
    layer = MaskedBatchNorm(epsilon=0.25)
    layer.build((None, None, 1))
    # Gain 2, shift 1, mean 3, deviation sqrt(2 + 0.25) = 1.5.
    layer.set_weights([np.array([value]) for value in (2.0, 1.0, 3.0, 2.0)])
    out = layer(np.array([[[6.0], [0.0], [9.0]]]), mask=tf.constant([[True, True, False]]))
    np.testing.assert_allclose(out, [[[5], [-3], [0]]], rtol=1e-6)


def test_batch_norm_learns_from_real_frames_by_hand():
    layer = MaskedBatchNorm(momentum=0.75, epsilon=0.0)
    x = np.array([[[1.0], [70.0]], [[3.0], [5.0]]])
    out = layer(x, mask=tf.constant([[True, False], [True, True]]), training=True)
    # 1, 3 and 5 have mean 3 and variance 8/3.
    scale = (3 / 8) ** 0.5
    np.testing.assert_allclose(out, [[[-2 * scale], [0]], [[0], [2 * scale]]], rtol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, [0.25 * 3], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [0.75 + 0.25 * 8 / 3], rtol=1e-6)


def test_training_statistics_do_not_depend_on_padding(noise):
    short, padded = MaskedBatchNorm(), MaskedBatchNorm()
    x = noise(2, 9, 4)
    x[:, 6:] *= 100
    alone = short(x[:, :6], training=True)
    together = padded(x, mask=tf.sequence_mask([6, 6], 9), training=True)
    np.testing.assert_allclose(together[:, :6], alone, atol=1e-5)
    np.testing.assert_allclose(padded.moving_variance, short.moving_variance, rtol=1e-5)


def test_a_batch_without_real_frames_leaves_the_moving_averages_finite(noise):
    layer = MaskedBatchNorm()
    layer(noise(1, 4, 2), mask=tf.zeros([1, 4], tf.bool), training=True)
    assert np.isfinite(layer.moving_mean).all()
    assert np.isfinite(layer.moving_variance).all()


def test_batch_norm_learns_in_float32_while_it_computes_in_bfloat16(noise):
    mixed, exact = MaskedBatchNorm(dtype="mixed_bfloat16"), MaskedBatchNorm()
    x = tf.cast(3 + noise(2, 50, 4), tf.bfloat16)
    for _ in range(3):
        out = mixed(x, training=True)
        exact(tf.cast(x, tf.float32), training=True)
    assert out.dtype == tf.bfloat16
    np.testing.assert_allclose(mixed.moving_mean.numpy(), exact.moving_mean.numpy(), rtol=1e-5)


def test_group_norm_computes_its_statistics_in_float32(noise):
    # Eight bits cannot add one to 256: a sum over 4000 frames would stop there.
    x = tf.cast(noise(1, 4000, 2), tf.bfloat16)
    out = tf.cast(MaskedGroupNorm(2, dtype="mixed_bfloat16")(x), tf.float32)
    expected = MaskedGroupNorm(2)(tf.cast(x, tf.float32))
    np.testing.assert_allclose(out, expected, rtol=2**-8, atol=1e-6)


def test_frame_norm_by_hand():
    x = np.array([[[1.0, 3.0], [5.0, 25.0]]])
    np.testing.assert_allclose(FrameNorm()(x), [[[-1, 1], [-1, 1]]], rtol=1e-4)
