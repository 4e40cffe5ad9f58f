from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.decoding.attention_beam import attention_beam_search
from tfasr.models.decoder import TransformerDecoder

END = 2
ABSENT = -float("inf")


class TableDecoder:
    """Predicts by the last two symbols and the utterance, from a table.

    `encoded` [B, 1, D] holds the utterance's number.
    """

    def __init__(self, table):
        self.vocabulary = table.shape[-1] - 1
        self.table = tf.constant(table, tf.float32)

    def start(self, encoded, mask, hypotheses):
        utterance = tf.repeat(tf.cast(encoded[:, 0, 0], tf.int32), hypotheses)
        return utterance, tf.zeros_like(utterance) + self.vocabulary

    def step(self, state, tokens):
        utterance, before = state
        scores = tf.gather_nd(self.table, tf.stack([utterance, before, tokens], -1))
        return scores, (utterance, tokens)

    def reorder(self, state, indices):
        return tf.nest.map_structure(lambda x: tf.gather(x, indices), state)


@pytest.fixture(scope="module")
def table(noise):
    """Log-probabilities [utterance, symbol before last, last symbol, next symbol]."""
    return log_softmax(1.5 * noise(2, END + 1, END + 1, END + 1), axis=-1)


def score_of(table, tokens):
    symbols = (END, END, *tokens, END)
    return float(sum(table[symbols[i : i + 3]] for i in range(len(tokens) + 1)))


def exhaustive(table, max_tokens, length_penalty=0.0):
    """Every sequence of at most so many tokens, best first, with its score."""
    sequences = [t for n in range(max_tokens + 1) for t in product(range(END), repeat=n)]
    scores = {t: score_of(table, t) / ((6 + len(t)) / 6) ** length_penalty for t in sequences}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def search(table, utterances=(0,), beam=40, max_tokens=3, length_penalty=0.0):
    encoded = tf.constant(utterances, tf.float32)[:, None, None]
    return attention_beam_search(
        TableDecoder(table),
        encoded,
        None,
        beam=beam,
        max_tokens=max_tokens,
        length_penalty=length_penalty,
    )


def listed(nbest, row=0):
    count = int((nbest.scores[row] > ABSENT).numpy().sum())
    lengths, tokens = nbest.num_tokens[row].numpy(), nbest.tokens[row].numpy()
    return {
        tuple(tokens[i, : lengths[i]].tolist()): float(nbest.scores[row, i]) for i in range(count)
    }


def test_scores_by_hand():
    # After the start: "a" 0.6, "b" 0.1, the end 0.3; after anything else the end 0.5.
    table = np.log(np.tile([0.25, 0.25, 0.5], (1, 3, 3, 1)))
    table[0, END, END] = np.log([0.6, 0.1, 0.3])
    expected = {(): 0.3, (0,): 0.3, (1,): 0.05}
    nbest = search(table, max_tokens=1)
    assert listed(nbest) == pytest.approx({t: np.log(p) for t, p in expected.items()}, rel=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_beam_of_all_sequences_is_exhaustive(table, length_penalty):
    expected = exhaustive(table[0], 3, length_penalty)
    found = listed(search(table, length_penalty=length_penalty))
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == list(expected)


def test_a_beam_of_one_is_greedy(table):
    symbols, total = [END, END], 0.0
    while len(symbols) < 10:
        scores = table[0][tuple(symbols[-2:])]
        symbols.append(int(np.argmax(scores)))
        total += scores.max()
        if symbols[-1] == END:
            break
    else:
        total += table[0][(*symbols[-2:], END)]
    expected = {tuple(s for s in symbols[2:] if s != END): pytest.approx(total, rel=1e-5)}
    assert listed(search(table, beam=1, max_tokens=8)) == expected


def test_a_wider_beam_finds_what_greedy_search_misses():
    # "a" is likelier at first, but all that follows it is not: "b" then the end is best.
    table = np.full([1, 3, 3, 3], np.log(1 / 3))
    table[0, END, END] = np.log([0.5, 0.4, 0.1])
    table[0, END, 1] = np.log([0.05, 0.05, 0.9])
    assert next(iter(listed(search(table, beam=1)))) != (1,)
    assert next(iter(listed(search(table, beam=2)))) == (1,)


def test_a_penalty_favours_longer_hypotheses(table):
    lengths = [
        int(search(table, beam=20, max_tokens=4, length_penalty=penalty).num_tokens[0, 0])
        for penalty in (0.0, 20.0)
    ]
    assert lengths[0] < lengths[1] == 4


def test_a_hypothesis_of_the_most_tokens_has_its_end_s_score(table):
    never_ending = table.copy()
    never_ending[..., END] = -9.0
    nbest = search(never_ending, beam=2, max_tokens=3)
    for tokens, score in listed(nbest).items():
        assert len(tokens) == 3
        np.testing.assert_allclose(score, score_of(never_ending[0], tokens), rtol=1e-5)


def test_utterances_of_a_batch_are_each_their_own(table):
    together = search(table, (0, 1, 0), beam=3)
    for row, utterance in enumerate((0, 1, 0)):
        assert listed(together, row) == listed(search(table, (utterance,), beam=3))


def test_fewer_sequences_than_hypotheses_leave_some_absent(table):
    nbest = search(table, beam=40, max_tokens=1)
    assert (nbest.scores.numpy() > ABSENT).sum() == 3
    assert nbest.num_tokens[0, 3:].numpy().tolist() == [0] * 37


def test_a_transformer_s_hypotheses_have_the_scores_of_whole_sequences(noise):
    decoder = TransformerDecoder(num_blocks=1, num_heads=2, ff_units=8, vocabulary=4)
    decoder.build(tf.TensorShape([None, None, 8]))
    for number, weight in enumerate(decoder.weights):
        weight.assign(noise(*weight.shape, seed=number))
    graph = tf.function(
        lambda encoded, mask: attention_beam_search(
            decoder, encoded, mask, beam=4, max_tokens=5, length_penalty=0.0
        ),
        input_signature=[tf.TensorSpec([None, None, 8]), tf.TensorSpec([None, None], tf.bool)],
        autograph=False,
    )
    encoded, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([6, 3])
    nbest = graph(encoded, mask)
    scores = decoder.score(encoded, mask, nbest.tokens, nbest.num_tokens)
    np.testing.assert_allclose(nbest.scores, scores, rtol=1e-4)
    alone = graph(encoded[1:, :3], mask[1:, :3])
    np.testing.assert_allclose(nbest.scores[1], alone.scores[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "value"), [("beam", 0), ("max_tokens", 0), ("length_penalty", -1.0)]
)
def test_settings_out_of_range_are_refused(table, name, value):
    with pytest.raises(ValueError, match=f"got {name}={value}"):
        search(table, **{name: value})
