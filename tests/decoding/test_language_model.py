import numpy as np
import pytest
import tensorflow as tf

from tfasr.decoding.language_model import Fusion, NoLanguageModel, lm_score


def test_fusion_by_hand():
    fusion = Fusion(weight=0.5, insertion_bonus=2.0)
    fused = fusion.fuse(tf.constant([-3.0, -1.0]), tf.constant([-4.0, -2.0]), tf.constant([2, 0]))
    np.testing.assert_allclose(fused, [-3 - 2 + 4, -1 - 1])


def test_a_weight_of_zero_silences_what_the_model_forbids():
    fused = Fusion().fuse(tf.constant([-3.0]), tf.constant([-np.inf], tf.float32), tf.constant([1]))
    np.testing.assert_allclose(fused, [-3])


def test_a_sequence_s_score_is_its_tokens_and_its_end_s(bigrams):
    model = bigrams(3)
    tokens = tf.constant([[[0, 2, 1], [1, -7, 9]], [[2, 2, 0], [99, 99, 99]]])
    scores = lm_score(model, tokens, tf.constant([[3, 1], [2, 0]]))
    expected = [
        [model.by_hand((0, 2, 1)), model.by_hand((1,))],
        [model.by_hand((2, 2)), model.by_hand(())],
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_no_language_model_says_zero():
    scores = lm_score(NoLanguageModel(), tf.constant([[1, 2]]), tf.constant([2]))
    assert scores.numpy().tolist() == [0.0]


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="not negative; got weight=-1"):
        Fusion(weight=-1)


def test_an_infinite_bonus_is_refused():
    with pytest.raises(ValueError, match="insertion_bonus must be finite; got insertion_bonus=inf"):
        Fusion(insertion_bonus=float("inf"))
