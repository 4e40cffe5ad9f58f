from itertools import groupby, product

import numpy as np
import tensorflow as tf
from scipy.special import log_softmax, logsumexp

from tfasr.decoding.ctc_lattice import ctc_score

# Padded to three tokens with whatever.
TOKENS = [
    [[0, 1, 0], [1, 9, 9], [0, 0, 9], [9, 9, 9]],
    [[1, 1, 0], [0, 9, 9], [1, 0, -3], [9, 9, 9]],
]
LENGTHS = [[3, 1, 2, 0], [3, 1, 2, 0]]


def brute_force(logits, tokens):
    log_probabilities = log_softmax(logits.astype(float), axis=1)
    blank = logits.shape[1] - 1
    scores = [
        sum(log_probabilities[frame, token] for frame, token in enumerate(path))
        for path in product(range(blank + 1), repeat=len(logits))
        if [token for token, _ in groupby(path) if token != blank] == list(tokens)
    ]
    return logsumexp(scores) if scores else -np.inf


def test_score_by_hand():
    # Two frames, each with probability 1/4 for the token and 3/4 for the blank.
    logits = tf.constant(np.log([[[0.25, 0.75], [0.25, 0.75]]]), tf.float32)
    scores = ctc_score(
        logits, tf.constant([2]), tf.zeros([1, 2, 1], tf.int32), tf.constant([[1, 0]])
    )
    np.testing.assert_allclose(scores, np.log([[7 / 16, 9 / 16]]), rtol=1e-5)


def test_scores_are_those_of_all_alignments(noise):
    logits = 2 * noise(2, 5, 3)
    scores = ctc_score(logits, tf.constant([5, 4]), tf.constant(TOKENS), tf.constant(LENGTHS))
    expected = [
        [
            brute_force(logits[row, : (5, 4)[row]], tokens[:length])
            for tokens, length in zip(TOKENS[row], LENGTHS[row], strict=True)
        ]
        for row in (0, 1)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_too_few_frames_make_a_sequence_impossible(noise):
    tokens = tf.constant([[[0, 0], [0, 1], [1, 1]]])
    scores = ctc_score(noise(1, 5, 3), tf.constant([2]), tokens, tf.constant([[2, 2, 1]]))
    assert np.isneginf(scores).tolist() == [[True, False, False]]


def test_no_frames_leave_the_empty_sequence_only():
    scores = ctc_score(
        tf.zeros([1, 0, 3]), tf.constant([0]), tf.constant([[[0], [0]]]), tf.constant([[0, 1]])
    )
    np.testing.assert_array_equal(scores, [[0, -np.inf]])


def test_padding_changes_no_score(noise):
    logits = 2 * noise(2, 5, 3)
    alone = ctc_score(
        logits[:1], tf.constant([5]), tf.constant(TOKENS[:1]), tf.constant(LENGTHS[:1])
    )
    longer = np.concatenate([logits, np.full([2, 3, 3], np.nan, np.float32)], 1)
    wider = np.pad(np.int32(TOKENS), [(0, 0), (0, 0), (0, 2)], constant_values=7)
    padded = ctc_score(longer, tf.constant([5, 4]), tf.constant(wider), tf.constant(LENGTHS))
    np.testing.assert_allclose(padded[:1], alone, rtol=1e-6)


def test_a_graph_scores_the_same(noise):
    logits, lengths = 2 * noise(2, 5, 3), tf.constant(LENGTHS)
    graph = tf.function(
        ctc_score,
        input_signature=[
            tf.TensorSpec([None, None, None]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, None, None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
        ],
        autograph=False,
    )
    arguments = (tf.constant(logits), tf.constant([5, 4]), tf.constant(TOKENS), lengths)
    np.testing.assert_allclose(graph(*arguments), ctc_score(*arguments), rtol=1e-6)
