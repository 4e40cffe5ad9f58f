from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from tfasr.decoding.ctc_lattice import ctc_score
from tfasr.decoding.ensembles import Member, combine
from tfasr.decoding.hypotheses import NBest
from tfasr.decoding.language_model import Fusion
from tfasr.decoding.prefix_beam import prefix_beam_search

ABSENT = -float("inf")
PIECES = ["▁a", "b", "c"]


def nbest(*rows):
    """An n-best list of `(tokens, score)`, padded."""
    longest = max(len(tokens) for row in rows for tokens, _ in row)
    most = max(len(row) for row in rows)
    padding = [((), ABSENT)]
    rows = [list(row) + padding * (most - len(row)) for row in rows]
    tokens = [[list(t) + [0] * (longest - len(t)) for t, _ in row] for row in rows]
    lengths = [[len(t) for t, _ in row] for row in rows]
    scores = [[score for _, score in row] for row in rows]
    return NBest(tf.constant(tokens, tf.int32), tf.constant(lengths), tf.constant(scores))


def says(value):
    """A scorer that gives everything the same score."""
    return lambda tokens, num_tokens: tf.fill(tf.shape(num_tokens), float(value))


def member(name, hypotheses, score=-50.0, weight=1.0, pieces=PIECES):
    return Member(name=name, pieces=pieces, nbest=hypotheses, score=says(score), weight=weight)


def present(combined, row=0):
    """The present hypotheses of one utterance with their scores, in order."""
    count = int((combined.scores[row] > ABSENT).numpy().sum())
    lengths, tokens = combined.num_tokens[row].numpy(), combined.tokens[row].numpy()
    return {
        tuple(tokens[i, : lengths[i]].tolist()): float(combined.scores[row, i])
        for i in range(count)
    }


ONE = member("one", nbest([((0, 1), -1.0), ((2,), -2.0)]), score=-9.0, weight=0.5)
TWO = member("two", nbest([((2,), -3.0), ((0,), -4.0), ((), -5.0)]), score=-10.0, weight=2.0)


def test_scores_by_hand():
    # "c" is in both lists: 0.5 x -2 + 2 x -3. The others are missing in one of them.
    expected = {(2,): -7.0, (0,): -12.5, (): -14.5, (0, 1): -20.5}
    combined = present(combine([ONE, TWO]))
    assert combined == expected
    assert list(combined) == list(expected)


def test_a_hypothesis_of_several_members_stands_once():
    combined = combine([TWO, TWO, ONE])
    assert combined.scores.shape == (1, 8)
    assert (combined.scores.numpy() > ABSENT).sum() == 4


def test_a_token_zero_is_not_padding():
    combined = combine([member("one", nbest([((0,), -1.0), ((0, 0), -2.0), ((), -3.0)]))])
    assert present(combined) == {(0,): -1.0, (0, 0): -2.0, (): -3.0}


def test_utterances_keep_their_own_hypotheses():
    one = member("one", nbest([((0,), -1.0)], [((1,), -2.0), ((2,), -3.0)]))
    two = member("two", nbest([((2,), -1.5)], [((1,), -4.0)]))
    combined = combine([one, two])
    assert present(combined, 0) == {(0,): -51.0, (2,): -51.5}
    assert present(combined, 1) == {(1,): -6.0, (2,): -53.0}


def test_the_language_model_is_added(bigrams):
    model = bigrams(3)
    combined = combine([ONE], Fusion(language_model=model, weight=2.0, insertion_bonus=0.5))
    expected = {
        (0, 1): -0.5 + 2 * model.by_hand((0, 1)) + 1.0,
        (2,): -1.0 + 2 * model.by_hand((2,)) + 0.5,
    }
    assert present(combined) == pytest.approx(expected, rel=1e-5)


def test_what_a_member_calls_impossible_is_absent():
    never = member("never", nbest([((2,), -1.0)]), score=ABSENT)
    assert present(combine([ONE, never])) == {(2,): -2.0}


def test_a_member_of_no_weight_forbids_nothing():
    never = member("never", nbest([((2,), -1.0)]), score=ABSENT, weight=0.0)
    assert present(combine([ONE, never])) == {(0, 1): -0.5, (2,): -1.0}


def test_two_searches_give_the_sums_of_exact_scores(noise):
    # Four frames hold at most 1 + 3 + 9 + 27 + 81 sequences of three tokens.
    logits, num_frames = [2 * noise(2, 4, 4, seed=seed) for seed in (0, 1)], tf.constant([4, 3])

    @tf.function(autograph=False)
    def ensemble():
        return combine(
            [
                Member(
                    name=str(index),
                    pieces=PIECES,
                    nbest=prefix_beam_search(x, num_frames, beam=121, token_beam=3),
                    score=partial(ctc_score, x, num_frames),
                    weight=0.5,
                )
                for index, x in enumerate(map(tf.constant, logits))
            ]
        )

    combined = ensemble()
    tokens, lengths = combined.tokens[:, :5], combined.num_tokens[:, :5]
    expected = sum(0.5 * ctc_score(x, num_frames, tokens, lengths) for x in logits)
    np.testing.assert_allclose(combined.scores[:, :5], expected, rtol=1e-5)


def test_vocabularies_of_different_size_are_refused():
    other = member("two", TWO.nbest, pieces=["▁a", "b"])
    with pytest.raises(ValueError, match="got 3 pieces of one, 2 of two"):
        combine([ONE, other])


def test_vocabularies_of_different_pieces_are_refused():
    other = member("two", TWO.nbest, pieces=["▁a", "x", "c"])
    with pytest.raises(ValueError, match="got piece 1 'b' of one, 'x' of two"):
        combine([ONE, other])


def test_an_ensemble_of_nobody_is_refused():
    with pytest.raises(ValueError, match="must have a member"):
        combine([])


def test_a_negative_weight_is_refused_with_its_member():
    with pytest.raises(ValueError, match="got weight=-1 of one"):
        member("one", ONE.nbest, weight=-1)
