from collections import defaultdict
from itertools import groupby, product

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.decoding.hypotheses import best_tokens
from tfasr.decoding.language_model import NO_FUSION, Fusion
from tfasr.decoding.prefix_beam import prefix_beam_search


def search(logits, num_frames, beam=400, token_beam=9, fusion=NO_FUSION):
    return prefix_beam_search(
        tf.constant(logits, tf.float32),
        tf.constant(num_frames),
        beam=beam,
        token_beam=token_beam,
        fusion=fusion,
    )


def listed(nbest, row=0):
    """The present hypotheses of one utterance: tokens and scores, in order."""
    count = int((nbest.scores[row] > -np.inf).numpy().sum())
    lengths = nbest.num_tokens[row, :count].numpy()
    tokens = nbest.tokens[row].numpy()
    return [tuple(tokens[i, :n]) for i, n in enumerate(lengths)], nbest.scores[row, :count].numpy()


def all_alignments(logits):
    """The log-probability of every token sequence, by summing all paths."""
    log_probabilities = log_softmax(logits.astype(float), axis=1)
    blank = logits.shape[1] - 1
    sums = defaultdict(lambda: -np.inf)
    for path in product(range(blank + 1), repeat=len(logits)):
        tokens = tuple(token for token, _ in groupby(path) if token != blank)
        score = sum(log_probabilities[frame, token] for frame, token in enumerate(path))
        sums[tokens] = np.logaddexp(sums[tokens], score)
    return sums


def slow_search(logits, beam, token_beam):
    """The same search over a dictionary of prefixes."""
    log_probabilities = log_softmax(logits.astype(float), axis=1)
    beams = {(): (0.0, -np.inf)}
    for scores in log_probabilities:
        tried = np.argsort(-scores[:-1])[:token_beam]
        after = defaultdict(lambda: [-np.inf, -np.inf])
        for prefix, (blank, token) in beams.items():
            total = np.logaddexp(blank, token)
            after[prefix][0] = total + scores[-1]
            if prefix:
                stay = token + scores[prefix[-1]]
                after[prefix][1] = np.logaddexp(after[prefix][1], stay)
            for new in range(len(scores) - 1):
                longer = (*prefix, new)
                if new in tried or longer in beams:
                    gain = (blank if prefix[-1:] == (new,) else total) + scores[new]
                    after[longer][1] = np.logaddexp(after[longer][1], gain)
        best = sorted(after, key=lambda prefix: -np.logaddexp(*after[prefix]))[:beam]
        beams = {prefix: tuple(after[prefix]) for prefix in best}
    return {prefix: np.logaddexp(*pair) for prefix, pair in beams.items()}


def assert_lists_equal(nbest, expected, row=0):
    tokens, scores = listed(nbest, row)
    assert len(set(tokens)) == len(tokens)
    assert set(tokens) == set(expected)
    np.testing.assert_allclose(scores, [expected[each] for each in tokens], rtol=1e-4, atol=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_scores_by_hand():
    # Two frames, each with probability 1/4 for the token and 3/4 for the blank: token-token,
    # token-blank and blank-token make 1/16 + 3/16 + 3/16; blank-blank makes 9/16.
    nbest = search(np.log([[[0.25, 0.75], [0.25, 0.75]]]), [2], beam=3)
    tokens, scores = listed(nbest)
    assert tokens == [(), (0,)]
    np.testing.assert_allclose(scores, np.log([9 / 16, 7 / 16]), rtol=1e-5)


@pytest.mark.parametrize(("frames", "vocabulary"), [(1, 3), (3, 3), (4, 3), (5, 2), (6, 1)])
def test_a_beam_of_all_prefixes_gives_every_sequence_its_probability(noise, frames, vocabulary):
    logits = 2 * noise(1, frames, vocabulary + 1)
    assert_lists_equal(search(logits, [frames]), all_alignments(logits[0]))


def test_fused_scores_are_those_of_all_alignments_and_the_language_model(noise, bigrams):
    logits, model = 2 * noise(1, 4, 4), bigrams(3)
    fusion = Fusion(language_model=model, weight=0.7, insertion_bonus=0.4)
    expected = {
        tokens: score + 0.7 * model.by_hand(tokens) + 0.4 * len(tokens)
        for tokens, score in all_alignments(logits[0]).items()
    }
    assert_lists_equal(search(logits, [4], fusion=fusion), expected)


def test_the_language_model_steers_a_narrow_search(bigrams):
    # The acoustics hardly care; the model of the test prefers the other token at the start.
    model = bigrams(2)
    liked = int(np.argmax(model.table[2, :2]))
    logits = np.array([[[5.0, 5.0, -5.0]]])
    logits[0, 0, 1 - liked] += 0.1
    assert listed(search(logits, [1], beam=1))[0] == [(1 - liked,)]
    fusion = Fusion(language_model=model, weight=1.0)
    assert listed(search(logits, [1], beam=1, fusion=fusion))[0] == [(liked,)]


def test_the_bonus_is_given_for_each_token(noise):
    logits = noise(1, 3, 3)
    expected = {t: s + 2.5 * len(t) for t, s in all_alignments(logits[0]).items()}
    assert_lists_equal(search(logits, [3], fusion=Fusion(insertion_bonus=2.5)), expected)


@pytest.mark.parametrize(("beam", "token_beam"), [(1, 1), (2, 3), (4, 2), (7, 5)])
def test_a_pruned_search_is_the_slow_one(noise, beam, token_beam):
    logits = 2 * noise(8, 12, 6)
    nbest = search(logits, [12] * 8, beam=beam, token_beam=token_beam)
    for row in range(8):
        assert_lists_equal(nbest, slow_search(logits[row], beam, token_beam), row)


def test_utterances_of_a_batch_are_each_their_own(noise):
    logits = 2 * noise(3, 12, 4)
    together = search(logits, [12, 5, 0], beam=4, token_beam=2)
    assert_lists_equal(together, slow_search(logits[0], 4, 2), row=0)
    assert_lists_equal(together, slow_search(logits[1, :5], 4, 2), row=1)
    assert_lists_equal(together, {(): 0.0}, row=2)


def test_padded_frames_say_nothing(noise):
    logits = 2 * noise(1, 6, 4)
    longer = np.concatenate([logits, np.full([1, 5, 4], np.nan)], 1)
    alone, padded = search(logits, [6], beam=5), search(longer, [6], beam=5)
    np.testing.assert_array_equal(padded.tokens, alone.tokens)
    np.testing.assert_array_equal(padded.scores, alone.scores)


def test_no_frames_are_the_empty_hypothesis_with_the_end_s_score(bigrams):
    model = bigrams(2)
    nbest = search(np.zeros([2, 0, 3]), [0, 0], beam=3)
    np.testing.assert_array_equal(nbest.scores, [[0, -np.inf, -np.inf]] * 2)
    np.testing.assert_array_equal(nbest.num_tokens, np.zeros([2, 3]))
    fused = search(np.zeros([1, 0, 3]), [0], 1, 1, Fusion(language_model=model, weight=2.0))
    np.testing.assert_allclose(fused.scores, [[2 * model.by_hand(())]], rtol=1e-6)


def test_impossible_tokens_are_in_no_hypothesis():
    logits = np.array([[[0.0, -np.inf, 0.0]] * 2])
    assert_lists_equal(search(logits, [2]), {(): np.log(1 / 4), (0,): np.log(3 / 4)})


def test_a_long_peaked_path_is_read_as_it_stands(noise):
    path = np.argmax(noise(1, 200, 6), -1)
    expected = [token for token, _ in groupby(path[0]) if token != 5]
    graph = tf.function(
        lambda x, n: prefix_beam_search(x, n, beam=4, token_beam=3), autograph=False
    )
    nbest = graph(tf.one_hot(path, 6, on_value=9.0), tf.constant([200]))
    assert best_tokens(nbest).to_list() == [expected]


def test_a_saved_model_searches_the_same(noise, tmp_path, bigrams):
    fusion = Fusion(language_model=bigrams(3), weight=0.5)
    signature = [tf.TensorSpec([None, None, 4]), tf.TensorSpec([None], tf.int32)]
    module = tf.Module()
    module.search = tf.function(
        lambda x, n: prefix_beam_search(x, n, beam=3, token_beam=2, fusion=fusion)._asdict(),
        input_signature=signature,
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.search)
    logits = noise(2, 7, 4)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    scores = served(x=tf.constant(logits), n=tf.constant([7, 4]))["scores"]
    expected = search(logits, [7, 4], beam=3, token_beam=2, fusion=fusion).scores
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["beam", "token_beam"])
def test_a_beam_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got {name}=0"):
        search(np.zeros([1, 2, 3]), [2], **{name: 0})
