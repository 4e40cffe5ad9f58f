import numpy as np
import pytest

from tfasr.study.reset import BlockErrors
from tfasr.study.scores import by_penalty, score_block


def score(rerandomised, intact, words, reinitialised=None, block=0):
    rerandomised = np.array(rerandomised)
    first = np.array(reinitialised) if reinitialised else rerandomised[0]
    return score_block(block, BlockErrors(first, rerandomised), np.array(intact), np.array(words))


def test_rates_by_hand():
    # Ten words; 3 and 5 errors with fresh weights, 8 with the first ones, 1 with none reset.
    result = score([[1, 2], [1, 4]], intact=[0, 1], words=[4, 6], reinitialised=[4, 4], block=3)
    assert result.block == 3
    assert result.rerandomised_wer == (0.3, 0.5)
    assert result.reinitialised_wer == 0.8
    assert result.wer == pytest.approx(0.4)
    assert result.penalty == pytest.approx(0.3)


def test_the_interval_is_of_the_difference_between_the_models():
    # Every utterance is one error of two words worse, however badly both do on it.
    result = score([[1, 3, 2, 1]], intact=[0, 2, 1, 0], words=[2, 2, 2, 2])
    assert result.interval == pytest.approx((0.5, 0.5))
    assert result.penalty == pytest.approx(0.5)


def test_the_interval_is_over_utterances():
    result = score([[2, 0] * 50], intact=[0] * 100, words=[2] * 100)
    # A mean of 100 draws of 0 or 1 has a deviation of 0.05.
    assert result.interval == pytest.approx((0.4, 0.6), abs=0.03)


def test_a_block_that_changes_nothing_has_no_penalty():
    result = score([[1, 2]], intact=[1, 2], words=[4, 4])
    assert (result.penalty, result.interval) == (0.0, (0.0, 0.0))


def test_the_most_ambient_block_comes_first_and_of_equals_the_lower():
    scores = [
        score([[errors]], [0], [10], block=block) for block, errors in ((0, 5), (2, 1), (1, 1))
    ]
    assert [result.block for result in by_penalty(scores)] == [1, 2, 0]


def test_text_without_words_is_no_division_by_zero():
    assert score([[0]], intact=[0], words=[0]).wer == 0
