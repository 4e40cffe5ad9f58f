from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.decoding.language_model import NO_FUSION, Fusion
from tfasr.decoding.transducer_beam import transducer_beam_search
from tfasr.decoding.transducer_greedy import transducer_greedy
from tfasr.models.transducer import JointNetwork, PredictionNetwork

DIM, UNITS = 3, 5


def make_networks(noise, vocabulary, scale=1.5, monotonic=False):
    prediction = PredictionNetwork(vocabulary, 4, UNITS)
    joint = JointNetwork(vocabulary, 6, monotonic)
    prediction.build(None)
    joint.build((DIM, UNITS))
    for number, weight in enumerate([*prediction.weights, *joint.weights]):
        weight.assign(scale * noise(*weight.shape, seed=number))
    return prediction, joint


@pytest.fixture(scope="module")
def two(noise):
    """Networks of two tokens."""
    return make_networks(noise, 2)


@pytest.fixture(scope="module")
def three(noise):
    """Networks of three tokens."""
    return make_networks(noise, 3)


def indifferent(noise, *bias):
    """Networks whose logits are their biases, whatever they are given."""
    networks = make_networks(noise, len(bias) - 1, scale=0)
    networks[1].output_dense.bias.assign(bias)
    return networks


def search(networks, encoded, num_frames, fusion=NO_FUSION, **settings):
    return transducer_beam_search(
        *networks,
        tf.convert_to_tensor(encoded),
        tf.convert_to_tensor(num_frames),
        fusion=fusion,
        **{"beam": 130, "max_symbols": 2, "token_beam": 3, **settings},
    )


def listed(found, row=0):
    """The present hypotheses of one utterance, in order: tokens with scores and frames."""
    nbest, frames = found
    count = int((nbest.scores[row] > -np.inf).numpy().sum())
    assert nbest.num_tokens[row, count:].numpy().tolist() == [0] * (nbest.scores.shape[1] - count)
    assert frames.shape == nbest.tokens.shape
    lists = {}
    for place in range(count):
        length = int(nbest.num_tokens[row, place])
        tokens, times = (x[row, place].numpy() for x in (nbest.tokens, frames))
        assert not tokens[length:].any()
        assert (times[length:] == -1).all()
        lists[tuple(tokens[:length].tolist())] = (
            float(nbest.scores[row, place]),
            tuple(times[:length].tolist()),
        )
    assert len(lists) == count
    return lists


class Scorer:
    """Scores what follows a frame of one utterance [T, D] and a prefix, read at once."""

    def __init__(self, networks, encoded, longest):
        prediction, joint = networks
        count = prediction.vocabulary
        prefixes = [p for n in range(longest + 1) for p in product(range(count), repeat=n)]
        lengths = np.array([len(prefix) for prefix in prefixes], np.int32)
        tokens = np.array([[*prefix, *[0] * (longest - len(prefix))] for prefix in prefixes])
        predicted = prediction(tf.constant(tokens, tf.int32), tf.constant(lengths))
        predicted = tf.gather(predicted, lengths, batch_dims=1)
        logits = joint(encoded[:, None], predicted[None]).numpy().astype(float)
        self.scores = dict(zip(prefixes, log_softmax(logits, -1).transpose(1, 0, 2), strict=True))
        self.num_frames, self.vocabulary = len(encoded), count

    def alignments(self, max_symbols, monotonic, frame=0, count=0, path=((), (), 0.0)):
        """Every alignment from a frame on: its tokens, their frames and its score."""
        tokens, frames, score = path
        if frame == self.num_frames:
            yield path
            return
        scores = self.scores[tokens][frame]
        blank = (tokens, frames, score + scores[-1])
        yield from self.alignments(max_symbols, monotonic, frame + 1, 0, blank)
        for token in range(self.vocabulary if count < max_symbols else 0):
            longer = ((*tokens, token), (*frames, frame), score + scores[token])
            # A monotonic token ends its frame.
            then = (frame + 1, 0) if monotonic else (frame, count + 1)
            yield from self.alignments(max_symbols, monotonic, *then, longer)

    def exhaustive(self, max_symbols, monotonic=False):
        """All token sequences, best first: the sum of their alignments, the best one's frames."""
        sums, best = {}, {}
        for tokens, frames, score in self.alignments(max_symbols, monotonic):
            sums[tokens] = np.logaddexp(sums.get(tokens, -np.inf), score)
            best[tokens] = max(best.get(tokens, (-np.inf, ())), (score, frames))
        order = sorted(sums, key=sums.get, reverse=True)
        return {tokens: (sums[tokens], best[tokens][1]) for tokens in order}

    def slow_search(self, beam, max_symbols, token_beam):
        """The same search over dictionaries of prefixes."""

        def best_of(prefixes):
            return dict(sorted(prefixes.items(), key=lambda item: -item[1])[:beam])

        beams = {(): 0.0}
        for frame in range(self.num_frames):
            through, longer = {}, beams
            for count in range(max_symbols + 1):
                for prefix, score in longer.items():
                    arrived = score + self.scores[prefix][frame, -1]
                    through[prefix] = np.logaddexp(through.get(prefix, -np.inf), arrived)
                through = best_of(through)
                last_in = min(through.values()) if len(through) == beam else -np.inf
                extended = {}
                for prefix, score in longer.items() if count < max_symbols else ():
                    scores = self.scores[prefix][frame, :-1]
                    for token in np.argsort(-scores)[:token_beam]:
                        if score + scores[token] > last_in:
                            extended[(*prefix, int(token))] = score + scores[token]
                longer = best_of(extended)
            beams = through
        return beams


def scores_of(lists):
    return {tokens: score for tokens, (score, _) in lists.items()}


def test_scores_by_hand(noise):
    # All logits are 0: the token and the blank have probability 1/2 each.
    networks = indifferent(noise, 0, 0)
    found = listed(search(networks, np.zeros([1, 2, DIM], np.float32), [2], max_symbols=1))
    # Two blanks, and a token before either or both of them.
    expected = {(): 1 / 4, (0,): 2 / 8, (0, 0): 1 / 16}
    assert scores_of(found) == pytest.approx({t: np.log(p) for t, p in expected.items()})


@pytest.mark.parametrize(("vocabulary", "frames", "max_symbols"), [(1, 3, 4), (2, 3, 2), (3, 2, 2)])
def test_a_beam_of_all_prefixes_is_exhaustive(noise, vocabulary, frames, max_symbols):
    networks, encoded = make_networks(noise, vocabulary), noise(2, frames, DIM)
    found = search(networks, encoded, [frames] * 2, max_symbols=max_symbols)
    for row in range(2):
        expected = Scorer(networks, encoded[row], frames * max_symbols).exhaustive(max_symbols)
        assert scores_of(listed(found, row)) == pytest.approx(scores_of(expected), rel=1e-5)


@pytest.mark.parametrize(("vocabulary", "frames"), [(1, 5), (2, 4), (3, 3)])
def test_a_monotonic_beam_of_all_prefixes_is_exhaustive(noise, vocabulary, frames):
    networks = make_networks(noise, vocabulary, monotonic=True)
    encoded = noise(2, frames, DIM)
    found = search(networks, encoded, [frames] * 2)
    for row in range(2):
        expected = Scorer(networks, encoded[row], frames).exhaustive(1, monotonic=True)
        ours = listed(found, row)
        assert scores_of(ours) == pytest.approx(scores_of(expected), rel=1e-5)
        assert {t: ours[t][1] for t in ours} == {t: expected[t][1] for t in expected}


def test_hypotheses_are_in_order_and_their_frames_those_of_the_best_alignments(noise, two):
    encoded = noise(1, 3, DIM)
    found, expected = listed(search(two, encoded, [3])), Scorer(two, encoded[0], 6).exhaustive(2)
    frames = {tokens: times for tokens, (_, times) in found.items()}
    assert frames == {tokens: times for tokens, (_, times) in expected.items()}
    assert list(frames) == list(expected)


def test_fused_scores_are_those_of_all_alignments_and_the_language_model(noise, two, bigrams):
    encoded, model = noise(1, 3, DIM), bigrams(2)
    fusion = Fusion(language_model=model, weight=0.7, insertion_bonus=0.4)
    expected = {
        tokens: score + 0.7 * model.by_hand(tokens) + 0.4 * len(tokens)
        for tokens, (score, _) in Scorer(two, encoded[0], 6).exhaustive(2).items()
    }
    found = scores_of(listed(search(two, encoded, [3], fusion)))
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == sorted(expected, key=expected.get, reverse=True)


def test_the_language_model_steers_a_narrow_search(noise, bigrams):
    # The acoustics hardly care; the model of the test prefers the other token at the start.
    model = bigrams(2)
    liked = int(np.argmax(model.table[2, :2]))
    networks = indifferent(noise, *(0.1 * (np.arange(2) != liked)), 0)
    encoded, settings = np.zeros([1, 1, DIM], np.float32), {"beam": 1, "max_symbols": 1}
    without = Fusion(insertion_bonus=9)
    assert list(listed(search(networks, encoded, [1], without, **settings))) == [(1 - liked,)]
    fused = Fusion(language_model=model, weight=1, insertion_bonus=9)
    assert list(listed(search(networks, encoded, [1], fused, **settings))) == [(liked,)]


@pytest.mark.parametrize(
    ("beam", "max_symbols", "token_beam"), [(1, 2, 3), (2, 1, 3), (3, 2, 1), (4, 2, 2)]
)
def test_a_pruned_search_is_the_slow_one(noise, three, beam, max_symbols, token_beam):
    encoded = noise(8, 6 // max_symbols, DIM)
    settings = {"beam": beam, "max_symbols": max_symbols, "token_beam": token_beam}
    found = search(three, encoded, [encoded.shape[1]] * 8, **settings)
    for row in range(8):
        expected = Scorer(three, encoded[row], 6).slow_search(**settings)
        assert scores_of(listed(found, row)) == pytest.approx(expected, rel=1e-5)


def test_a_beam_of_one_weighs_whole_frames(noise):
    # Greedily the token, 0.6, is taken before the blank, 0.4. Once the frame is read, the blank
    # alone stands at 0.4, after the token it stands at 0.6 * 0.4.
    networks, encoded = indifferent(noise, *np.log([0.6, 0.4])), tf.zeros([1, 1, DIM])
    found = listed(search(networks, encoded, [1], beam=1, max_symbols=1))
    assert found == {(): (pytest.approx(np.log(0.4)), ())}
    greedy = transducer_greedy(*networks, encoded, tf.constant([1]), max_symbols=1)
    assert greedy.tokens.numpy().tolist() == [[0]]


def test_a_sequence_is_at_least_as_probable_as_its_greedy_path(noise, two):
    encoded = noise(3, 3, DIM, seed=1)
    greedy = transducer_greedy(*two, tf.convert_to_tensor(encoded), tf.fill([3], 3), max_symbols=2)
    found = search(two, encoded, [3] * 3)
    for row in range(3):
        tokens = tuple(greedy.tokens[row, : int(greedy.num_tokens[row])].numpy().tolist())
        assert listed(found, row)[tokens][0] >= float(greedy.scores[row]) - 1e-5


@pytest.fixture(scope="module")
def graph(three):
    """A narrow search in one graph for all sizes."""
    return tf.function(
        lambda encoded, num_frames: search(three, encoded, num_frames, beam=4, token_beam=2),
        input_signature=[tf.TensorSpec([None, None, DIM]), tf.TensorSpec([None], tf.int32)],
        autograph=False,
    )


def test_a_graph_searches_the_same(noise, three, graph):
    encoded = noise(2, 5, DIM)
    found, eager = graph(encoded, [5, 3]), search(three, encoded, [5, 3], beam=4, token_beam=2)
    for row in range(2):
        assert scores_of(listed(found, row)) == pytest.approx(scores_of(listed(eager, row)))


def test_utterances_of_a_batch_are_each_their_own(noise, graph):
    encoded, num_frames = noise(3, 9, DIM), [9, 4, 0]
    together = graph(encoded, num_frames)
    for row, count in enumerate(num_frames):
        alone = listed(graph(encoded[row : row + 1, :count], [count]))
        found = listed(together, row)
        assert scores_of(found) == pytest.approx(scores_of(alone), rel=1e-5)
        assert [frames for _, frames in found.values()] == [t for _, t in alone.values()]


def test_padded_frames_say_nothing(noise, graph):
    encoded = noise(1, 6, DIM)
    longer = np.concatenate([encoded, np.full([1, 5, DIM], np.nan, np.float32)], 1)
    assert listed(graph(longer, [6])) == listed(graph(encoded, [6]))


def test_an_empty_batch_is_empty(graph):
    nbest, frames = graph(np.zeros([0, 6, DIM], np.float32), np.zeros([0], np.int32))
    assert nbest.scores.shape == (0, 4)
    assert frames.shape == nbest.tokens.shape == (0, 4, 0)


def test_no_frames_are_the_empty_hypothesis_with_the_end_s_score(noise, two, bigrams):
    model = bigrams(2)
    fusion = Fusion(language_model=model, weight=0.7, insertion_bonus=0.4)
    found = search(two, np.zeros([2, 0, DIM], np.float32), [0, 0], fusion)
    for row in range(2):
        assert listed(found, row) == {(): (pytest.approx(0.7 * model.by_hand(())), ())}


def test_impossible_tokens_are_in_no_hypothesis(noise):
    networks, encoded = make_networks(noise, 2), noise(1, 2, DIM)
    bias = networks[1].output_dense.bias
    bias.assign([-np.inf, *bias.numpy()[1:]])
    expected = Scorer(networks, encoded[0], 4).exhaustive(2)
    expected = {tokens: score for tokens, score in scores_of(expected).items() if 0 not in tokens}
    assert scores_of(listed(search(networks, encoded, [2]))) == pytest.approx(expected, rel=1e-5)


def test_a_saved_model_searches_the_same(noise, three, tmp_path, bigrams):
    fusion = Fusion(language_model=bigrams(3), weight=0.5)
    settings = {"beam": 3, "max_symbols": 2, "token_beam": 2, "fusion": fusion}

    def found(encoded, num_frames):
        nbest, frames = transducer_beam_search(*three, encoded, num_frames, **settings)
        return {**nbest._asdict(), "frames": frames}

    module = tf.Module()
    module.networks = three
    module.search = tf.function(
        found,
        input_signature=[tf.TensorSpec([None, None, DIM]), tf.TensorSpec([None], tf.int32)],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.search)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    given = {"encoded": tf.constant(noise(2, 5, DIM)), "num_frames": tf.constant([5, 3])}
    expected = module.search(**given)
    for name, value in served(**given).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6)


@pytest.mark.parametrize("name", ["beam", "max_symbols", "token_beam"])
def test_settings_below_one_are_refused(two, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got {name}=0"):
        search(two, np.zeros([1, 2, DIM], np.float32), [2], **{name: 0})
