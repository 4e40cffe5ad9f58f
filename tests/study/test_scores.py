import numpy as np
import pytest

from tfasr.study.ranking import Score
from tfasr.study.reset import ResetErrors
from tfasr.study.resets import Reset
from tfasr.study.scores import by_penalty, require_words, score_reset, words_to_decide


def score(rerandomised, intact, words, reinitialised=None, block=0, **settings):
    rerandomised = np.array(rerandomised)
    first = np.array(reinitialised) if reinitialised else rerandomised[0]
    errors = ResetErrors(first, rerandomised, 0.0)
    return score_reset(Reset((block,)), errors, np.array(intact), np.array(words), **settings)


def test_rates_by_hand():
    # Ten words; 3 and 5 errors with fresh weights, 8 with the first ones, 1 with none reset.
    result = score([[1, 2], [1, 4]], intact=[0, 1], words=[4, 6], reinitialised=[4, 4], block=3)
    assert result.blocks == (3,)
    assert result.rerandomised_wer == (0.3, 0.5)
    assert result.reinitialised_wer == 0.8
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
    assert [result.blocks[0] for result in by_penalty(scores)] == [1, 2, 0]


def test_text_without_words_is_no_division_by_zero():
    assert score([[0]], intact=[0], words=[0]).penalty == 0


def test_the_weights_of_step_0_may_make_the_penalty():
    given = {"intact": [0, 1], "words": [4, 6], "reinitialised": [4, 4]}
    result = score([[1, 2], [1, 4]], **given, by_first_weights=True)
    assert result.penalty == pytest.approx(0.7)


@pytest.mark.parametrize(("words", "margin"), [(150, 0.02), (600, 0.005), (30, 0.1)])
def test_enough_words_are_enough(words, margin):
    require_words(words, margin)


def test_too_few_words_for_a_margin_say_how_many_are_needed():
    message = (
        r"a margin of 0\.5 % of words needs 600 words or more .* may hide 3\.0%; got 100 words"
    )
    with pytest.raises(ValueError, match=message):
        require_words(100, 0.005)


def test_no_words_are_too_few():
    with pytest.raises(ValueError, match="got 0 words"):
        require_words(0, 0.02)


@pytest.mark.parametrize(
    ("penalty", "interval", "expected"),
    # Twice as far as the margin on its side: four times the words.
    [(0.01, (-0.02, 0.03), 400), (0.05, (-0.01, 0.2), 400), (0.02, (0.0, 0.04), 0)],
)
def test_the_words_that_would_decide_go_with_the_square_of_the_interval(
    penalty, interval, expected
):
    undecided = Score(blocks=(0,), penalty=penalty, interval=interval)
    assert words_to_decide(undecided, 0.02, 100) == pytest.approx(expected, abs=1)
