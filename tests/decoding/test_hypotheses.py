import numpy as np
import tensorflow as tf

from tfasr.decoding.hypotheses import best_first, best_tokens

ABSENT = -float("inf")
TOKENS = [[[1, 2, 9, 9], [3, 9, 9, 9], [4, 5, 6, 9]], [[7, 9, 9, 9], [9, 9, 9, 9], [8, 8, 9, 9]]]
LENGTHS = [[2, 1, 3], [1, 4, 2]]
SCORES = [[-2.0, -1.0, -3.0], [-1.0, ABSENT, -0.5]]


def ordered():
    return best_first(tf.constant(TOKENS), tf.constant(LENGTHS), tf.constant(SCORES))


def test_the_best_hypothesis_comes_first():
    nbest = ordered()
    np.testing.assert_array_equal(nbest.scores, [[-1, -2, -3], [-0.5, -1, ABSENT]])
    np.testing.assert_array_equal(nbest.num_tokens, [[1, 2, 3], [2, 1, 0]])


def test_padding_and_absent_hypotheses_hold_zeros():
    expected = [[[3, 0, 0], [1, 2, 0], [4, 5, 6]], [[8, 8, 0], [7, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(ordered().tokens, expected)


def test_equal_scores_keep_their_order():
    nbest = best_first(tf.constant([[[5], [6], [7]]]), tf.ones([1, 3], tf.int32), tf.zeros([1, 3]))
    assert nbest.tokens.numpy().tolist() == [[[5], [6], [7]]]


def test_best_tokens_are_each_utterance_s_first():
    assert best_tokens(ordered()).to_list() == [[3], [8, 8]]


def test_no_utterances_are_no_hypotheses():
    nbest = best_first(tf.zeros([0, 2, 3], tf.int32), tf.zeros([0, 2], tf.int32), tf.zeros([0, 2]))
    assert nbest.tokens.shape == (0, 2, 0)
