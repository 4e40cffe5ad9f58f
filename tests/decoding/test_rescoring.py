import numpy as np
import pytest
import tensorflow as tf

from tfasr.decoding.hypotheses import NBest
from tfasr.decoding.language_model import Fusion
from tfasr.decoding.rescoring import add_language_model, rescore

ABSENT = -float("inf")
NBEST = NBest(
    tokens=tf.constant([[[0, 1], [2, 0], [0, 0]], [[1, 0], [0, 0], [0, 0]]]),
    num_tokens=tf.constant([[2, 1, 0], [1, 0, 0]]),
    scores=tf.constant([[-1.0, -2.0, -3.0], [-1.0, -4.0, ABSENT]]),
)
CTC = tf.constant([[-1.0, -2.0, -3.0], [-1.0, -4.0, -9.0]])
LEFT = tf.constant([[-10.0, -4.0, -7.0], [-5.0, -6.0, 0.0]])
RIGHT = tf.constant([[-20.0, -8.0, -1.0], [-5.0, -2.0, 0.0]])


def test_scores_by_hand():
    nbest = rescore(NBEST, CTC, LEFT, RIGHT, ctc_weight=0.5, reverse_weight=0.25)
    # First utterance: -7.5 - 5 - 0.5, -3 - 2 - 1 and -5.25 - 0.25 - 1.5; second: -3.75 - 1.25
    # - 0.5 and -4.5 - 0.5 - 2.
    np.testing.assert_allclose(nbest.scores, [[-6, -7, -13], [-5.5, -7, ABSENT]], rtol=1e-6)


def test_hypotheses_follow_their_scores():
    nbest = rescore(NBEST, CTC, LEFT, RIGHT, ctc_weight=0.5, reverse_weight=0.25)
    assert nbest.num_tokens.numpy().tolist() == [[1, 0, 2], [1, 0, 0]]
    assert nbest.tokens.numpy()[0].tolist() == [[2, 0], [0, 0], [0, 1]]


def test_an_absent_hypothesis_stays_last_whatever_the_models_say():
    nbest = rescore(NBEST, CTC, LEFT, RIGHT, ctc_weight=0.0, reverse_weight=0.0)
    np.testing.assert_allclose(nbest.scores[1], [-5, -6, ABSENT])


def test_a_model_of_no_weight_is_not_heard():
    silent = tf.fill([2, 3], np.float32(np.nan))
    nbest = rescore(NBEST, silent, LEFT, silent, ctc_weight=0.0, reverse_weight=0.0)
    np.testing.assert_allclose(nbest.scores[0], [-4, -7, -10])


def test_what_a_model_with_a_weight_calls_impossible_becomes_absent():
    ctc = tf.constant([[ABSENT, -2.0, -3.0], [-1.0, -4.0, -9.0]])
    nbest = rescore(NBEST, ctc, LEFT, RIGHT, ctc_weight=1.0, reverse_weight=0.0)
    np.testing.assert_allclose(nbest.scores[0], [-6, -10, ABSENT])


def test_a_language_model_s_scores_are_added_with_the_bonus(bigrams):
    model = bigrams(3)
    nbest = add_language_model(
        NBEST, Fusion(language_model=model, weight=0.5, insertion_bonus=0.25)
    )
    expected = [
        -1 + 0.5 * model.by_hand((0, 1)) + 0.5,
        -2 + 0.5 * model.by_hand((2,)) + 0.25,
        -3 + 0.5 * model.by_hand(()),
    ]
    np.testing.assert_allclose(nbest.scores[0], sorted(expected, reverse=True), rtol=1e-6)
    assert nbest.scores[1, 2] == ABSENT


def test_a_negative_ctc_weight_is_refused():
    with pytest.raises(ValueError, match="not be negative; got ctc_weight=-1"):
        rescore(NBEST, CTC, LEFT, RIGHT, ctc_weight=-1, reverse_weight=0.0)


def test_a_reverse_weight_above_one_is_refused():
    with pytest.raises(ValueError, match=r"from 0 to 1; got reverse_weight=1\.5"):
        rescore(NBEST, CTC, LEFT, RIGHT, ctc_weight=0.5, reverse_weight=1.5)
