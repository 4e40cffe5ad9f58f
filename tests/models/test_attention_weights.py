import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.attention_weights import relative_shift, relative_unshift, relative_weights
from tfasr.models.fusion import fusing

SEED = tf.constant([3, 7])


@pytest.mark.parametrize(("queries", "keys"), [(1, 3), (2, 5), (4, 5)])
def test_shift_for_the_last_frames_alone_is_that_of_all_frames(noise, queries, keys):
    scores = noise(2, 3, keys, 2 * keys)
    last = scores[:, :, -queries:, : keys + queries]
    np.testing.assert_array_equal(relative_shift(last), relative_shift(scores)[:, :, -queries:])


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_shift_is_its_definition(noise, frames):
    scores = noise(2, 3, frames, 2 * frames)
    expected = np.zeros([2, 3, frames, frames], np.float32)
    for query in range(frames):
        for key in range(frames):
            expected[..., query, key] = scores[..., query, frames - 1 - query + key]
    np.testing.assert_array_equal(relative_shift(scores), expected)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (2, 2), (5, 5), (2, 5)])
def test_what_is_unshifted_is_where_each_score_came_from(noise, queries, keys):
    scores = noise(2, 3, queries, keys)
    expected = np.zeros([2, 3, queries, keys + queries], np.float32)
    for query in range(queries):
        for key in range(keys):
            expected[..., query, queries - 1 - query + key] = scores[..., query, key]
    np.testing.assert_array_equal(relative_unshift(scores), expected)


def plain_weights(by_content, by_distance, visible, kept):
    """The equation, with what dropout keeps as factors."""
    scores = tf.where(visible, by_content + relative_shift(by_distance), -1e30)
    return tf.nn.softmax(scores) * kept


def weights_and_gradients(weigh, upstream, *scores):
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = weigh(*scores)
    return weights, *tape.gradient(weights, scores, upstream)


@pytest.mark.parametrize("rate", [0.0, 0.25])
@pytest.mark.parametrize("fuse", [False, True])
def test_weights_and_gradients_are_those_of_the_equation(noise, rate, fuse):
    by_content, by_distance = tf.constant(noise(2, 3, 4, 4)), tf.constant(noise(2, 3, 4, 8))
    upstream = tf.constant(noise(2, 3, 4, 4, seed=1))
    visible = tf.sequence_mask([4, 2], 4)[:, None, None]

    def weigh(*scores):
        return relative_weights(*scores, visible, rate, SEED)

    @tf.function(autograph=False)
    def fused(*scores):
        with fusing():
            return weights_and_gradients(weigh, upstream, *scores)

    plainly = weights_and_gradients(weigh, upstream, by_content, by_distance)
    out = fused(by_content, by_distance) if fuse else plainly
    kept = tf.where(out[0] == 0, 0.0, 1 / (1 - rate))
    expected = weights_and_gradients(
        lambda *scores: plain_weights(*scores, visible, kept), upstream, by_content, by_distance
    )
    for one, other in zip(out, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_query_that_sees_nothing_moves_nothing(noise):
    scores = tf.constant(noise(1, 1, 2, 2)), tf.constant(noise(1, 1, 2, 4))
    _, *gradients = weights_and_gradients(
        lambda *scores: relative_weights(*scores, tf.zeros([1, 1, 1, 2], tf.bool), 0.1, SEED),
        tf.constant(noise(1, 1, 2, 2, seed=1)),
        *scores,
    )
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))
