import jiwer
import numpy as np
import pytest

from tfasr.configs.seeds import counted_generator
from tfasr.evaluation.error_rates import (
    EditCounts,
    bootstrap_interval,
    count_character_errors,
    count_word_errors,
    evaluate_texts,
    resampled_rates,
)

WORDS = ["turn", "the", "light", "on", "off", "a", "in", "kitchen"]


def random_sentences(purpose, count=60):
    generator = counted_generator(0, purpose)
    return [" ".join(generator.choice(WORDS, size=generator.integers(1, 9))) for _ in range(count)]


def slow_edit_distance(reference, hypothesis):
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, start=1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != heard)),
            )
    return row[-1]


REFERENCES, HYPOTHESES = random_sentences("references"), random_sentences("hypotheses")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "insertions", "deletions"),
    [
        ("turn the light on", "turn the light on", 0, 0, 0),
        ("turn the light on", "turn a light", 1, 0, 1),
        ("turn the light on", "please turn the light on", 0, 1, 0),
        ("turn the light on", "", 0, 0, 4),
        ("", "turn on", 0, 2, 0),
        ("", "", 0, 0, 0),
        ("a a a", "a", 0, 0, 2),
        ("the light", "thelight", 1, 0, 1),
    ],
)
def test_word_errors_by_hand(reference, hypothesis, substitutions, insertions, deletions):
    counts = count_word_errors([reference], [hypothesis])
    assert counts.substitutions.tolist() == [substitutions]
    assert counts.insertions.tolist() == [insertions]
    assert counts.deletions.tolist() == [deletions]
    assert counts.length.tolist() == [len(reference.split())]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [("kitten", "sitting", 3), ("a b", "ab", 1), ("語彙", "語い", 1), ("ab", "", 2), ("", "ab", 2)],
)
def test_character_errors_by_hand(reference, hypothesis, errors):
    counts = count_character_errors([reference], [hypothesis])
    assert counts.errors.tolist() == [errors]
    assert counts.length.tolist() == [len(reference)]


def test_rate_is_all_errors_by_all_words():
    counts = count_word_errors(["a b c d", "a"], ["a b c", "b c"])
    assert counts.rate == (1 + 2) / 5


def test_rate_without_reference_words_is_the_number_of_insertions():
    assert count_word_errors([""], ["a b"]).rate == 2


def test_rate_is_jiwer_s():
    ours = count_word_errors(REFERENCES, HYPOTHESES)
    np.testing.assert_allclose(ours.rate, jiwer.wer(REFERENCES, HYPOTHESES), rtol=1e-12)
    ours = count_character_errors(REFERENCES, HYPOTHESES)
    np.testing.assert_allclose(ours.rate, jiwer.cer(REFERENCES, HYPOTHESES), rtol=1e-12)


def test_errors_of_an_utterance_are_its_edit_distance():
    pairs = zip(REFERENCES, HYPOTHESES, strict=True)
    expected = [slow_edit_distance(r.split(), h.split()) for r, h in pairs]
    assert count_word_errors(REFERENCES, HYPOTHESES).errors.tolist() == expected


def test_a_long_utterance_of_many_words_is_aligned():
    words = [f"w{index}" for index in range(12_000)]
    counts = count_word_errors([" ".join(words)], [" ".join(words[1:])])
    assert (counts.errors.tolist(), counts.length.tolist()) == ([1], [12_000])


def test_a_missing_hypothesis_is_named():
    with pytest.raises(ValueError, match="got 2 references, 1 hypotheses"):
        count_word_errors(["a", "b"], ["a"])


COUNTS = count_word_errors(REFERENCES, HYPOTHESES)


def test_the_interval_contains_the_rate():
    low, high = bootstrap_interval(COUNTS)
    assert low < COUNTS.rate < high


def test_the_interval_is_that_of_the_central_limit():
    # Errors of 400 utterances of one word each, a quarter of them wrong: the rate's standard
    # error is sqrt(1/4 * 3/4 / 400), and 1.96 of them make 95 %.
    errors = (np.arange(400) % 4 == 0).astype(int)
    zeros = np.zeros(400, int)
    low, high = bootstrap_interval(EditCounts(errors, zeros, zeros, np.ones(400, int)))
    half = 1.96 * (3 / 16 / 400) ** 0.5
    # 2000 resamples know the end of an interval to a tenth of its half width.
    np.testing.assert_allclose([low, high], [0.25 - half, 0.25 + half], atol=half / 10)


def test_the_interval_is_the_same_again():
    assert bootstrap_interval(COUNTS, seed=1) == bootstrap_interval(COUNTS, seed=1)
    assert bootstrap_interval(COUNTS, seed=1) != bootstrap_interval(COUNTS, seed=2)


def test_the_interval_of_a_perfect_system_is_zero():
    assert bootstrap_interval(count_word_errors(REFERENCES, REFERENCES)) == (0, 0)


def test_systems_are_compared_on_the_same_utterances():
    errors, length = COUNTS.errors, COUNTS.length
    one, worse = resampled_rates([errors, errors + length], length)
    # Whatever utterances are drawn, one error more a word is a rate higher by 1.
    np.testing.assert_allclose(worse - one, 1, rtol=1e-12)
    assert one.std() > 0


def test_there_are_2000_resamples_of_the_rate():
    rates = resampled_rates([COUNTS.errors], COUNTS.length)
    assert rates.shape == (1, 2000)
    # Five standard errors of their mean.
    np.testing.assert_allclose(rates.mean(), COUNTS.rate, atol=5 * rates.std() / 2000**0.5)


def test_an_evaluation_by_hand():
    evaluation = evaluate_texts(["a b", "c"], ["a", "c d"]).to_json()
    intervals = [evaluation.pop(name) for name in ("wer_interval", "cer_interval")]
    assert all(low <= high for low, high in intervals)
    assert evaluation == {
        "wer": 2 / 3,
        "cer": 4 / 4,
        "substitutions": 0,
        "insertions": 1,
        "deletions": 1,
        "words": 3,
        "utterances": 2,
    }


def test_an_evaluation_of_nothing_is_named():
    with pytest.raises(ValueError, match="utterance"):
        evaluate_texts([], [])
