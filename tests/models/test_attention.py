import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from tfasr.models.attention import (
    ChunkedAttention,
    RelativeAttention,
    chunk_mask,
    relative_positions,
)

# Normalised to (-1, 1) and (1, -1).
TWO_FRAMES = tf.constant([[[1.0, 3.0], [3.0, 1.0]]])


def attention_of_zeros():
    """One head, two channels: all weights zero, but values and output pass through."""
    layer = RelativeAttention(1)
    layer.build(tf.TensorShape([None, None, 2]))
    for dense in (layer.query_dense, layer.key_dense, layer.position_dense):
        dense.kernel.assign(tf.zeros([2, 2]))
    for dense in (layer.value_dense, layer.output_dense):
        dense.kernel.assign(tf.eye(2))
    return layer


def test_positions_by_hand():
    # Distances 1, 0, -1 at frequencies 1 and 1 / 100.
    expected = [
        [np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)],
        [0, 0, 1, 1],
        [-np.sin(1), -np.sin(0.01), np.cos(1), np.cos(0.01)],
    ]
    np.testing.assert_allclose(relative_positions(tf.constant(2), 4), expected, atol=1e-6)


def test_positions_reach_as_far_back_as_there_are_frames_before():
    # Two frames after three others are up to 4 frames behind and one ahead of another.
    longer = relative_positions(tf.constant(5), 4)[:6]
    np.testing.assert_array_equal(relative_positions(tf.constant(2), 4, 3), longer)


def test_equal_scores_average_the_values_by_hand():
    np.testing.assert_allclose(attention_of_zeros()(TWO_FRAMES), np.zeros([1, 2, 2]), atol=1e-6)


def test_attention_by_content_by_hand():
    layer = attention_of_zeros()
    layer.key_dense.kernel.assign(tf.eye(2))
    # Scores are +-(ln 3) / 2 by the first channel of the key: weights 1/4 and 3/4.
    layer.content_bias.assign([[2**0.5 * np.log(3) / 2, 0.0]])
    expected = [[[0.5, -0.5], [0.5, -0.5]]]
    np.testing.assert_allclose(layer(TWO_FRAMES), expected, atol=1e-5)


def test_attention_by_distance_by_hand():
    layer = attention_of_zeros()
    layer.position_dense.kernel.assign(tf.eye(2))
    # A frame at distance 1 in the past scores ln 3, one in the future -ln 3: either frame
    # gives weight 3/4 to the first.
    layer.position_bias.assign([[2**0.5 * np.log(3) / np.sin(1), 0.0]])
    expected = [[[-0.5, 0.5], [-0.5, 0.5]]]
    np.testing.assert_allclose(layer(TWO_FRAMES), expected, atol=1e-5)


def slow_attention(layer, x):
    """Transformer-XL's four terms for every pair of frames, one head at a time."""
    weights = {weight.name.split(":")[0]: weight.numpy() for weight in layer.weights}
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    y = y * weights["norm/gamma"] + weights["norm/beta"]
    query, key, value = (
        y @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        for name in ("query", "key", "value")
    )
    frames, dim = x.shape
    size = dim // layer.num_heads
    frequency = 10000.0 ** (-np.arange(0, dim, 2) / dim)
    mixed = np.zeros_like(x)
    for head in range(layer.num_heads):
        own = slice(head * size, (head + 1) * size)
        u, v = weights["content_bias"][head], weights["position_bias"][head]
        scores = np.zeros([frames, frames])
        for i in range(frames):
            for j in range(frames):
                angle = (i - j) * frequency
                sinusoid = np.concatenate([np.sin(angle), np.cos(angle)])
                position = (sinusoid @ weights["position/kernel"])[own]
                scores[i, j] = (query[i, own] + u) @ key[j, own] + (query[i, own] + v) @ position
        mixed[:, own] = softmax(scores / size**0.5, axis=1) @ value[:, own]
    return mixed @ weights["output/kernel"] + weights["output/bias"]


@pytest.mark.parametrize(("heads", "frames"), [(1, 5), (2, 6), (4, 7)])
def test_attention_is_its_equations(noise, with_noise_weights, heads, frames):
    layer = with_noise_weights(RelativeAttention(heads), (None, None, 8))
    x = noise(2, frames, 8)
    expected = np.stack([slow_attention(layer, utterance) for utterance in x.astype(float)])
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_nobody_attends_to_padding(noise, with_noise_weights):
    layer = with_noise_weights(RelativeAttention(2), (None, None, 8))
    x, mask = noise(1, 6, 8), tf.sequence_mask([4], 6)
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(x))
        out = layer(x, mask=mask)[:, :4]
    np.testing.assert_array_equal(tape.gradient(out, x)[:, 4:], np.zeros([1, 2, 8]))


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = RelativeAttention(2, dropout=0.5), noise(1, 6, 8)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert 0.25 < np.mean(one == 0) < 0.75


def test_heads_that_do_not_divide_the_width_are_named(noise):
    with pytest.raises(ValueError, match="num_heads must divide D; got num_heads=3, D=8"):
        RelativeAttention(3)(noise(1, 2, 8))


def test_a_module_without_a_head_is_refused():
    with pytest.raises(ValueError, match="must leave a head; got missing_heads=2, num_heads=2"):
        RelativeAttention(2, missing_heads=2)


def test_a_frame_sees_its_chunk_and_the_frames_before_it_by_hand():
    seen = chunk_mask(tf.constant(5), tf.constant(2), 1)
    assert seen.numpy().astype(int).tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize(("frames", "chunk"), [(4, 0), (4, 4), (4, 9), (0, 0), (0, 2)])
def test_a_chunk_of_all_frames_sees_all_frames(frames, chunk):
    assert np.all(chunk_mask(tf.constant(frames), tf.constant(chunk), 0))


def test_without_an_attention_mask_chunked_attention_is_relative_attention(
    noise, with_noise_weights
):
    one, other = (
        with_noise_weights(layer(2), (None, None, 8))
        for layer in (RelativeAttention, ChunkedAttention)
    )
    x, mask = noise(2, 6, 8), tf.sequence_mask([4, 6], 6)
    np.testing.assert_array_equal(other(x, mask=mask), one(x, mask=mask))


def test_a_frame_attends_to_those_of_its_row_of_the_attention_mask_alone(noise, with_noise_weights):
    layer = with_noise_weights(ChunkedAttention(2), (None, None, 8))
    x = tf.constant(noise(1, 5, 8))
    seen = chunk_mask(tf.constant(5), tf.constant(2), 1)
    for frame in range(5):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer(x, attention_mask=seen)[:, frame]
        reached = np.any(tape.gradient(out, x)[0], -1)
        assert reached.tolist() == seen[frame].numpy().tolist()


def test_steps_of_attention_are_those_of_the_chunk_mask(noise, with_noise_weights):
    layer = with_noise_weights(ChunkedAttention(2), (None, None, 8))
    x, mask = tf.constant(noise(2, 9, 8)), tf.sequence_mask([9, 4], 9)
    whole = layer(x, mask=mask, attention_mask=chunk_mask(tf.constant(9), tf.constant(3), 4))
    state = layer.start(2, 4)
    for first in (0, 3, 6):
        own = slice(first, first + 3)
        heard = tf.minimum(tf.constant([9.0, 4.0]), float(first))
        out, state = layer.step(x[:, own], mask[:, own], heard, state)
        real = mask[:, own]
        np.testing.assert_allclose(out[real], whole[:, own][real], atol=1e-6)
