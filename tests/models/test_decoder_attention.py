import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from tfasr.models.decoder_attention import CausalAttention, CrossAttention


def uniform(layer):
    """Two channels, one head: queries and keys zero, values and output pass through."""
    layer.build(tf.TensorShape([None, None, 2]))
    for dense in (layer.query_dense, layer.key_dense):
        dense.kernel.assign(tf.zeros([2, 2]))
    for dense in (layer.value_dense, layer.output_dense):
        dense.kernel.assign(tf.eye(2))
    return layer


def test_equal_scores_average_the_places_so_far_by_hand():
    # Normalised to (-1, 1), (1, -1) and (-1, 1).
    x = tf.constant([[[1.0, 3.0], [3.0, 1.0], [1.0, 3.0]]])
    expected = [[[-1, 1], [0, 0], [-1 / 3, 1 / 3]]]
    np.testing.assert_allclose(uniform(CausalAttention(1))(x), expected, atol=1e-5)


def test_equal_scores_average_the_real_frames_by_hand():
    x, encoded = tf.zeros([1, 1, 2]), tf.constant([[[1.0, 2.0], [3.0, 6.0], [90.0, 90.0]]])
    out = uniform(CrossAttention(1))(x, encoded, mask=tf.constant([[True, True, False]]))
    np.testing.assert_allclose(out, [[[2, 4]]], atol=1e-5)


def test_scores_are_scaled_products_by_hand():
    layer = uniform(CrossAttention(1))
    layer.key_dense.kernel.assign(tf.eye(2))
    # The query is (ln 3) sqrt(2) along the first channel: scores ln 3 and 0, weights 3/4, 1/4.
    layer.query_dense.bias.assign([2**0.5 * np.log(3), 0])
    out = layer(tf.zeros([1, 1, 2]), tf.constant([[[1.0, 0.0], [0.0, 4.0]]]))
    np.testing.assert_allclose(out, [[[3 / 4, 1]]], atol=1e-5)


def slow_attention(layer, x, memory, allowed):
    """`memory` None stands for the normalised x; one head and query at a time."""
    weights = {weight.name.split(":")[0]: weight.numpy() for weight in layer.weights}
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    y = y * weights["norm/gamma"] + weights["norm/beta"]
    memory = y if memory is None else memory
    query, key, value = (
        source @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        for name, source in (("query", y), ("key", memory), ("value", memory))
    )
    size = x.shape[1] // layer.num_heads
    mixed = np.zeros_like(x)
    for head in range(layer.num_heads):
        own = slice(head * size, (head + 1) * size)
        for place in range(len(x)):
            seen = allowed[place]
            scores = key[seen][:, own] @ query[place, own] / size**0.5
            mixed[place, own] = softmax(scores) @ value[seen][:, own]
    return mixed @ weights["output/kernel"] + weights["output/bias"]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_is_its_equations(noise, with_noise_weights, heads):
    layer, x = with_noise_weights(CausalAttention(heads), (None, None, 8)), noise(2, 5, 8)
    allowed = np.tri(5, dtype=bool)
    expected = [slow_attention(layer, row, None, allowed) for row in x.astype(float)]
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_cross_attention_is_its_equations(noise, with_noise_weights, heads):
    layer, x = with_noise_weights(CrossAttention(heads), (None, None, 8)), noise(2, 3, 8)
    encoded, mask = noise(2, 6, 8), np.arange(6) < np.array([[4], [6]])
    expected = [
        slow_attention(layer, x[i].astype(float), encoded[i], mask[[i] * 3]) for i in (0, 1)
    ]
    np.testing.assert_allclose(layer(x, encoded, mask=tf.constant(mask)), expected, atol=1e-5)


def test_a_later_place_changes_no_earlier_one(noise, with_noise_weights):
    layer, x = with_noise_weights(CausalAttention(2), (None, None, 8)), noise(1, 6, 8)
    before = layer(x)
    x[:, 4:] = 100
    np.testing.assert_array_equal(layer(x)[:, :4], before[:, :4])


def test_steps_are_the_whole_call(noise, with_noise_weights):
    layer, x = with_noise_weights(CausalAttention(2), (None, None, 8)), tf.constant(noise(3, 5, 8))
    cache, steps = (tf.zeros([3, 2, 0, 4]),) * 2, []
    for place in range(5):
        y, cache = layer.step(x[:, place : place + 1], cache)
        steps.append(y)
    np.testing.assert_allclose(tf.concat(steps, 1), layer(x), atol=1e-5)


def test_rows_of_one_utterance_share_its_frames(noise, with_noise_weights):
    layer, x = with_noise_weights(CrossAttention(2), (None, None, 8)), tf.constant(noise(6, 4, 8))
    encoded, mask = noise(2, 7, 8), tf.sequence_mask([5, 7], 7)
    tiled = layer(x, np.repeat(encoded, 3, 0), mask=tf.repeat(mask, 3, 0))
    np.testing.assert_allclose(layer(x, encoded, mask=mask), tiled, atol=1e-5)


def test_nobody_attends_to_padding(noise, with_noise_weights):
    layer = with_noise_weights(CrossAttention(2), (None, None, 8))
    with tf.GradientTape() as tape:
        tape.watch(encoded := tf.constant(noise(1, 6, 8)))
        out = layer(noise(1, 3, 8), encoded, mask=tf.sequence_mask([4], 6))
    np.testing.assert_array_equal(tape.gradient(out, encoded)[:, 4:], np.zeros([1, 2, 8]))


@pytest.mark.parametrize("kind", [CausalAttention, CrossAttention])
def test_dropout_is_decided_by_the_seed(noise, kind):
    layer, inputs = kind(2, dropout=0.5), [noise(1, 6, 8)] * (1 + (kind is CrossAttention))
    one, again, other = (layer(*inputs, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert 0.25 < np.mean(one == 0) < 0.75


def test_heads_that_do_not_divide_the_width_are_named(noise):
    with pytest.raises(ValueError, match="num_heads must divide D; got num_heads=3, D=8"):
        CausalAttention(3)(noise(1, 2, 8))
