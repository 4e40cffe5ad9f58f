import functools

import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.attention import RelativeAttention
from tfasr.models.sparse_attention import (
    INFERENCE_SEED,
    ProbSparseAttention,
    log_count,
    sample_keys,
    sinusoids,
    sparsity,
)

WIDTH = 8


@pytest.fixture(scope="module")
def few(with_noise_weights):
    """Of 20 frames, 3 attend, chosen by a sample of 6."""
    layer = ProbSparseAttention(2, sample_factor=2, query_factor=1)
    return with_noise_weights(layer, (None, None, WIDTH))


@pytest.fixture(scope="module")
def dense(with_noise_weights):
    return with_noise_weights(RelativeAttention(2), (None, None, WIDTH))


@pytest.fixture(scope="module")
def everyone(with_noise_weights):
    layer = ProbSparseAttention(2, query_factor=50)
    return with_noise_weights(layer, (None, None, WIDTH))


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [(0, 0), (1, 1), (2, 2), (6, 6), (20, 15), (21, 20), (4000, 45), (59874, 55), (59875, 60)],
)
def test_count_by_hand(num_frames, expected):
    assert log_count(tf.constant(num_frames), 5) == expected


def drawn_frames(mask, factor, seed):
    frames, drawn = sample_keys(mask, factor, seed)
    return [row[kept].tolist() for row, kept in zip(frames.numpy(), drawn.numpy(), strict=True)]


def test_one_key_is_drawn_from_each_stretch():
    # Four keys of seven frames: 0, 1 or 2, 3 or 4, 5 or 6.
    seen = [set(), set(), set(), set()]
    for seed in range(20):
        [frames] = drawn_frames(np.arange(9)[None] < 7, 2, (0, seed))
        for stretch, frame in zip(seen, frames, strict=True):
            stretch.add(frame)
    assert seen == [{0}, {1, 2}, {3, 4}, {5, 6}]


def test_a_sample_as_large_as_the_utterance_is_the_utterance():
    assert drawn_frames(np.ones([1, 9], bool), 5, (0, 1)) == [list(range(9))]


def test_all_keys_are_drawn_about_equally_often():
    graph = tf.function(lambda seed: sample_keys(tf.ones([1, 12], tf.bool), 1, seed))
    hits = np.zeros(12)
    for seed in range(400):
        frames, drawn = graph(tf.constant([0, seed]))
        hits[frames.numpy()[drawn.numpy()]] += 1
    # Three of twelve: 100 each, with a deviation of 9.
    assert np.abs(hits - 100).max() < 36


def test_a_sample_depends_on_its_own_real_frames_alone():
    mask = np.zeros([3, 60], bool)
    mask[0, :50], mask[1, :20], mask[2, 30:50] = True, True, True
    [alone] = drawn_frames(np.ones([1, 20], bool), 2, (3, 4))
    _, behind, before = drawn_frames(mask, 2, (3, 4))
    assert behind == alone
    assert before == [30 + frame for frame in alone]


def test_no_key_is_drawn_where_no_frame_is_real():
    assert drawn_frames(np.zeros([1, 9], bool), 5, (0, 1)) == [[]]


def test_sparsity_by_hand():
    query = tf.constant([[[[1.0, 0.0], [0.0, 2.0]]]])
    key = tf.constant([[[[3.0, 1.0], [-1.0, 0.5], [99.0, 99.0]]]])
    drawn = tf.constant([[True, True, False]])
    # Scores 3 and -1, and 2 and 1, of 10 frames.
    expected = [[[3 - 2 / 10, 2 - 3 / 10]]]
    np.testing.assert_allclose(sparsity(query, key, drawn, tf.constant([10])), expected, rtol=1e-6)


def test_late_places_keep_their_precision():
    sine, cosine = sinusoids(tf.constant(30001), 6)
    angle = 30000 * (10000.0 ** (-np.arange(0, 6, 2, np.float32) / 6)).astype(float)
    np.testing.assert_allclose(sine[-1], np.sin(angle), atol=1e-6)
    np.testing.assert_allclose(cosine[-1], np.cos(angle), atol=1e-6)


def test_those_not_chosen_keep_their_value_by_hand():
    layer = ProbSparseAttention(1, query_factor=1)
    layer.build(tf.TensorShape([None, None, 2]))
    for one in (layer.query_dense, layer.key_dense, layer.position_dense):
        one.kernel.assign(tf.zeros([2, 2]))
    for one in (layer.value_dense, layer.output_dense):
        one.kernel.assign(tf.eye(2))
    # Normalised to 1, 1 and -1. All scores are equal: the first two attend, and see the mean.
    x = tf.constant([[[3.0, 1.0], [3.0, 1.0], [1.0, 3.0]]])
    expected = [[[1 / 3, -1 / 3], [1 / 3, -1 / 3], [-1, 1]]]
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)  # the norm's epsilon is 1e-5


def slow_choice(layer, x, num_frames):
    """[H, T] bool, by algorithm 1, one query at a time."""
    weights = {weight.name.split(":")[0]: weight.numpy() for weight in layer.weights}
    y = layer.norm(x[None])[0].numpy().astype(float)
    query, key = (y @ weights[f"{n}/kernel"] + weights[f"{n}/bias"] for n in ("query", "key"))
    [sample] = drawn_frames(
        np.arange(len(x))[None] < num_frames, layer.sample_factor, INFERENCE_SEED
    )
    chosen = np.zeros([layer.num_heads, len(x)], bool)
    size = x.shape[-1] // layer.num_heads
    for head in range(layer.num_heads):
        own = slice(head * size, (head + 1) * size)
        measure = []
        for frame in range(num_frames):
            scores = [
                (query[frame, own] + weights["content_bias"][head]) @ key[other, own]
                for other in sample
            ]
            measure.append(max(scores) - sum(scores) / num_frames)
        count = layer.query_factor * int(np.ceil(np.log(num_frames)))
        chosen[head, np.argsort(measure)[-count:]] = True
    return chosen


def slow_sparse(layer, dense, x, mask):
    """All frames attend; those that should not have are put back."""
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1).numpy()
    chosen = np.stack(
        [slow_choice(layer, one, length) for one, length in zip(x, lengths, strict=True)]
    )
    y = dense.norm(x)
    value = dense._heads(dense.value_dense(y))
    mixed = tf.where(chosen[..., None], tf.matmul(dense._weights(y, mask), value), value)
    return dense.output_dense(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), x.shape))


@pytest.mark.parametrize(("length", "frames"), [(20, 20), (13, 20), (40, 57)])
def test_attention_is_the_dense_one_of_the_chosen(few, dense, noise, length, frames):
    x, mask = noise(2, frames, WIDTH), tf.sequence_mask([length, frames], frames)
    expected = slow_sparse(few, dense, x, mask)
    np.testing.assert_allclose(few(x, mask=mask), expected, atol=1e-5)


def gradients(layer, call, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = call(x)
    return tape.gradient(out, [x, *layer.trainable_weights], output_gradients=upstream)


def test_gradient_is_that_of_the_chosen_ones_dense_attention(few, dense, noise):
    x, upstream = noise(2, 20, WIDTH), tf.constant(noise(2, 20, WIDTH, seed=1))
    mask = tf.sequence_mask([13, 20], 20)
    ours = gradients(few, functools.partial(few, mask=mask), x, upstream)
    slow = gradients(dense, lambda x: slow_sparse(few, dense, x, mask), x, upstream)
    for one, other in zip(ours, slow, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * (1 + np.abs(other).max()))


@pytest.mark.parametrize(("length", "frames"), [(1, 1), (1, 5), (7, 9), (120, 150)])
def test_where_all_attend_it_is_the_dense_attention(everyone, dense, noise, length, frames):
    x, mask = noise(2, frames, WIDTH), tf.sequence_mask([length, frames], frames)
    real = mask[..., None]
    expected = tf.where(real, dense(x, mask=mask), 0)
    np.testing.assert_allclose(tf.where(real, everyone(x, mask=mask), 0), expected, atol=1e-5)


def test_where_all_attend_the_gradient_is_the_dense_one(everyone, dense, noise):
    x, upstream = noise(2, 30, WIDTH), tf.constant(noise(2, 30, WIDTH, seed=1))
    ours = gradients(everyone, everyone, x, upstream)
    for one, other in zip(ours, gradients(dense, dense, x, upstream), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * (1 + np.abs(other).max()))


def test_weights_are_named_and_shaped_as_the_dense_ones(few, dense):
    ours, theirs = ([(w.name, w.shape) for w in layer.weights] for layer in (few, dense))
    assert ours == theirs


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_utterance_is_answered_alike_anywhere_in_any_batch(few, noise, position):
    x, lengths = 100 * noise(3, 90, WIDTH), np.array([90, 21, 55])
    own = noise(1, 40, WIDTH, seed=1)
    x[position, :40], lengths[position] = own[0], 40
    out = few(x, mask=tf.sequence_mask(lengths, 90))
    np.testing.assert_allclose(out[position, :40], few(own)[0], atol=1e-5)


def test_padding_in_front_changes_nothing(few, noise):
    x, own = 100 * noise(1, 60, WIDTH), noise(1, 40, WIDTH, seed=1)
    x[:, 20:] = own
    out = few(x, mask=tf.range(60)[None] >= 20)
    np.testing.assert_allclose(out[:, 20:], few(own), atol=1e-5)


def test_nobody_attends_to_padding(few, noise):
    mask = tf.sequence_mask([14], 20)
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(noise(1, 20, WIDTH)))
        out = few(x, mask=mask)[:, :14]
    np.testing.assert_array_equal(tape.gradient(out, x)[:, 14:], np.zeros([1, 6, WIDTH]))


def test_no_tensor_is_larger_than_the_chosen_queries_scores(noise):
    frames, heads = 512, 2
    layer = ProbSparseAttention(heads, dropout=0.1)
    layer.build((None, None, WIDTH))

    @tf.function(autograph=False)
    def sizes(x, seed):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer(x, seed=seed)
        tape.gradient(out, [x, *layer.trainable_weights])
        operations = tf.compat.v1.get_default_graph().get_operations()
        outputs = [output for operation in operations for output in operation.outputs]
        return tf.stack([tf.size(one) for one in outputs if one.dtype != tf.resource])

    arguments = (tf.constant(noise(1, frames, WIDTH)), tf.constant([0, 1]))
    # What a nested function makes would go uncounted.
    assert not sizes.get_concrete_function(*arguments).graph.as_graph_def().library.function
    # 5 ceil(ln 512) = 35.
    assert sizes(*arguments).numpy().max() == heads * 35 * frames


def test_inference_repeats_itself(few, noise):
    x = noise(1, 20, WIDTH)
    np.testing.assert_array_equal(few(x), few(x))


def test_the_sample_is_decided_by_the_seed(few, noise):
    x = noise(1, 60, WIDTH)
    one, again, other = (few(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = ProbSparseAttention(2, dropout=0.5), noise(1, 6, WIDTH)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert 0.25 < np.mean(one == 0) < 0.75


def test_a_graph_for_all_shapes_computes_the_same(few, noise):
    signature = [tf.TensorSpec([None, None, WIDTH]), tf.TensorSpec([None, None], tf.bool)]
    graph = tf.function(lambda x, mask: few(x, mask=mask), signature, autograph=False)
    x, mask = tf.constant(noise(2, 40, WIDTH)), tf.sequence_mask([40, 23], 40)
    np.testing.assert_allclose(graph(x, mask), few(x, mask=mask), atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_named(noise):
    with pytest.raises(ValueError, match="num_heads must divide D; got num_heads=3, D=8"):
        ProbSparseAttention(3)(noise(1, 2, WIDTH))


@pytest.mark.parametrize("name", ["sample_factor", "query_factor"])
def test_a_factor_below_one_is_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got {name}=0"):
        ProbSparseAttention(2, **{name: 0})
