from itertools import groupby, product

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.decoding.greedy import detokenize
from tfasr.decoding.word_times import Alignment, align, word_times

PIECES = [" ⁇ ", "▁a", "b", "▁", "c"]


def peaked(paths, width):
    return tf.one_hot(paths, width, on_value=9.0)


def best_path(logits, tokens):
    """The most probable path of all that collapse to the tokens, and its score."""
    log_probabilities = log_softmax(logits.astype(float), axis=1)
    blank = logits.shape[1] - 1
    paths = [
        path
        for path in product(range(blank + 1), repeat=len(logits))
        if [token for token, _ in groupby(path) if token != blank] == list(tokens)
    ]
    scores = [sum(log_probabilities[f, t] for f, t in enumerate(path)) for path in paths]
    return paths[int(np.argmax(scores))], max(scores)


def spans(path, blank):
    first, last, place = [], [], 0
    for token, frames in groupby(path):
        length = len(list(frames))
        if token != blank:
            first.append(place)
            last.append(place + length - 1)
        place += length
    return first, last


def test_frames_by_hand():
    logits = peaked([[2, 0, 0, 2, 0, 1, 1, 1, 2]], 3)
    alignment = align(logits, tf.constant([9]), tf.constant([[0, 0, 1]]), tf.constant([3]))
    np.testing.assert_array_equal(alignment.first, [[1, 4, 5]])
    np.testing.assert_array_equal(alignment.last, [[2, 4, 7]])


@pytest.mark.parametrize("tokens", [[0], [1, 0], [0, 0], [0, 1, 0], []])
def test_the_path_is_the_best_of_all(noise, tokens):
    logits = 2 * noise(1, 6, 3, seed=len(tokens))
    path, score = best_path(logits[0], tokens)
    first, last = spans(path, 2)
    alignment = align(
        logits, tf.constant([6]), tf.constant([tokens], tf.int32), tf.constant([len(tokens)])
    )
    assert (alignment.first.numpy().tolist(), alignment.last.numpy().tolist()) == ([first], [last])
    np.testing.assert_allclose(alignment.scores, [score], rtol=1e-5)


def test_utterances_of_a_batch_are_each_their_own_whatever_the_padding(noise):
    logits = 2 * noise(2, 6, 3)
    logits[1, 4:] = np.nan
    alignment = align(
        logits, tf.constant([6, 4]), tf.constant([[1, 0, 1], [1, 9, -9]]), tf.constant([3, 1])
    )
    for row, frames, tokens in ((0, 6, [1, 0, 1]), (1, 4, [1])):
        path, score = best_path(logits[row, :frames], tokens)
        first, last = spans(path, 2)
        padding = [-1] * (3 - len(tokens))
        assert alignment.first[row].numpy().tolist() == first + padding
        assert alignment.last[row].numpy().tolist() == last + padding
        np.testing.assert_allclose(alignment.scores[row], score, rtol=1e-5)


@pytest.mark.parametrize(("tokens", "frames"), [([0, 0], 2), ([0, 1, 0], 2), ([0], 0)])
def test_too_few_frames_have_no_alignment(noise, tokens, frames):
    alignment = align(
        noise(1, 5, 3), tf.constant([frames]), tf.constant([tokens]), tf.constant([len(tokens)])
    )
    np.testing.assert_array_equal(alignment.first, [[-1] * len(tokens)])
    np.testing.assert_array_equal(alignment.last, [[-1] * len(tokens)])
    assert np.isneginf(alignment.scores).all()


def test_a_batch_without_frames_aligns_nothing():
    alignment = align(
        tf.zeros([1, 0, 3]), tf.constant([0]), tf.zeros([1, 0], tf.int32), tf.constant([0])
    )
    np.testing.assert_array_equal(alignment.scores, [0])


def test_a_graph_aligns_the_same(noise):
    logits, tokens = 2 * noise(2, 6, 3), tf.constant([[1, 0, 1], [1, 1, 0]])
    arguments = (tf.constant(logits), tf.constant([6, 5]), tokens, tf.constant([3, 2]))
    specs = [
        tf.TensorSpec([None, None, None]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int32),
    ]
    tf.nest.map_structure(
        np.testing.assert_array_equal,
        tf.function(align, input_signature=specs, autograph=False)(*arguments),
        align(*arguments),
    )


def timed(tokens, first, last):
    """Words and times of ragged tokens; first and last frames as padded rows."""
    alignment = Alignment(tf.constant(first), tf.constant(last), tf.zeros(len(first)))
    ragged = tf.ragged.constant(tokens, dtype=tf.int32)
    times = word_times(alignment, ragged, PIECES, seconds_per_frame=0.04)
    return [[word.decode() for word in row] for row in times.words.to_list()], times


def test_words_by_hand():
    # "ab" in frames 2 to 6, "ac" in frames 9 to 10; the second utterance says "a" in frame 0.
    words, times = timed([[1, 2, 1, 4], [1]], [[2, 5, 9, 10], [0] * 4], [[3, 6, 9, 10], [0] * 4])
    assert words == [["ab", "ac"], ["a"]]
    np.testing.assert_allclose(times.start.values, [0.08, 0.36, 0.0], rtol=1e-6)
    np.testing.assert_allclose(times.end.values, [0.28, 0.44, 0.04], rtol=1e-6)


def test_an_utterance_without_tokens_has_no_words():
    words, times = timed([[], [1], []], [[0], [3], [0]], [[0], [3], [0]])
    assert words == [[], ["a"], []]
    assert times.start.row_lengths().numpy().tolist() == [0, 1, 0]


def test_a_batch_without_tokens_has_no_words():
    alignment = Alignment(tf.zeros([1, 0], tf.int32), tf.zeros([1, 0], tf.int32), tf.zeros(1))
    tokens = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), [0])
    assert word_times(alignment, tokens, PIECES, 0.04).words.to_list() == [[]]


def test_a_space_by_itself_is_no_word():
    words, times = timed([[3, 1, 3, 3, 4, 3]], [[0, 1, 2, 3, 4, 5]], [[0, 1, 2, 3, 4, 5]])
    assert words == [["a", "c"]]
    np.testing.assert_allclose(times.start.values, [0.04, 0.16], rtol=1e-6)


def test_words_without_an_alignment_have_no_times():
    words, times = timed([[1, 2, 1]], [[-1, -1, -1]], [[-1, -1, -1]])
    assert words == [["ab", "a"]]
    np.testing.assert_array_equal(times.start.values, [-1, -1])
    np.testing.assert_array_equal(times.end.values, [-1, -1])


def test_words_are_those_of_the_text(noise):
    tokens = np.argmax(noise(20, 12, 5), -1).astype(np.int32)
    frames = np.tile(np.arange(12, dtype=np.int32), [20, 1])
    words, _ = timed(tokens.tolist(), frames, frames)
    texts = detokenize(tf.RaggedTensor.from_tensor(tokens), PIECES).numpy()
    assert [" ".join(row) for row in words] == [text.decode() for text in texts]


def test_seconds_per_frame_must_be_positive():
    alignment = Alignment(tf.constant([[0]]), tf.constant([[0]]), tf.zeros(1))
    with pytest.raises(ValueError, match="must be positive; got seconds_per_frame=0"):
        word_times(alignment, tf.ragged.constant([[1]]), PIECES, 0)
