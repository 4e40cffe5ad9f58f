import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.configs.seeds import counted_generator
from tfasr.decoding.transducer_greedy import TransducerState, first_state, transducer_greedy
from tfasr.decoding.word_times import Alignment, word_times
from tfasr.models.transducer import JointNetwork, PredictionNetwork

VOCABULARY, DIM, UNITS = 4, 3, 5


def make_networks(noise):
    prediction, joint = PredictionNetwork(VOCABULARY, 4, UNITS), JointNetwork(VOCABULARY, 6)
    prediction.build(None)
    joint.build((DIM, UNITS))
    for number, weight in enumerate([*prediction.weights, *joint.weights]):
        weight.assign(1.5 * noise(*weight.shape, seed=number))
    return prediction, joint


@pytest.fixture(scope="module")
def networks(noise):
    return make_networks(noise)


@pytest.fixture(scope="module")
def graphs(networks):
    """By `max_symbols`, the search from the start, over any sizes, and from a state."""

    def make(max_symbols):
        @tf.function(
            input_signature=[tf.TensorSpec([None, None, DIM]), tf.TensorSpec([None], tf.int32)],
            autograph=False,
        )
        def start(encoded, num_frames):
            return transducer_greedy(*networks, encoded, num_frames, max_symbols=max_symbols)

        @tf.function(reduce_retracing=True, autograph=False)
        def resume(encoded, num_frames, state):
            return transducer_greedy(*networks, encoded, num_frames, state, max_symbols=max_symbols)

        return start, resume

    return {count: make(count) for count in (1, 2, 4)}


def listed(emitted, row=0):
    count = int(emitted.num_tokens[row])
    tokens, frames = (x[row].numpy().tolist() for x in (emitted.tokens, emitted.frames))
    assert tokens[count:] == [0] * (len(tokens) - count)
    assert frames[count:] == [-1] * (len(frames) - count)
    return tokens[:count], frames[:count]


@pytest.fixture(scope="module")
def scorer(networks):
    """Scores what follows a vector [D] and tokens, which the prediction network reads at once."""
    prediction, joint = networks

    @tf.function(
        input_signature=[tf.TensorSpec([DIM]), tf.TensorSpec([None], tf.int32)], autograph=False
    )
    def score(vector, tokens):
        predicted = prediction(tokens[None], tf.size(tokens)[None])[:, -1]
        return joint(vector[None], predicted)[0]

    return lambda vector, tokens: log_softmax(score(vector, tokens).numpy().astype(float))


def slow_greedy(scorer, encoded, max_symbols, monotonic=False):
    """The same over one utterance [T, D]: tokens, their frames and the path's score."""
    tokens, frames, score = [], [], 0.0
    for frame, vector in enumerate(encoded):
        for count in range(1 if monotonic else max_symbols + 1):
            scores = scorer(vector, np.array(tokens, np.int32))
            symbol = VOCABULARY if count == max_symbols else int(np.argmax(scores))
            score += scores[symbol]
            if symbol == VOCABULARY:
                break
            tokens.append(symbol)
            frames.append(frame)
    return (tokens, frames), score


def test_a_path_by_hand():
    # The prediction network says nothing, and each frame one logit: log 2 for its symbol.
    prediction, joint = PredictionNetwork(2, 1, 1), JointNetwork(2, 3)
    prediction.build(None)
    joint.build((3, 1))
    for weight in [*prediction.weights, *joint.weights]:
        weight.assign(tf.zeros_like(weight))
    joint.encoder_dense.kernel.assign(30 * tf.eye(3))  # tanh makes 1 of 30
    joint.output_dense.kernel.assign(np.log(2) * tf.eye(3))
    encoded = tf.one_hot([[2, 1, 2, 0]], 3)
    emitted = transducer_greedy(prediction, joint, encoded, tf.constant([4]), max_symbols=2)
    # As nothing is remembered, tokens repeat until their bound, and the blank is taken then.
    assert listed(emitted) == ([1, 1, 0, 0], [1, 1, 3, 3])
    # 2 / 4 for the blanks of two frames and all tokens, 1 / 4 for a blank at the bound.
    np.testing.assert_allclose(emitted.scores, [np.log((2 / 4) ** 6 * (1 / 4) ** 2)], rtol=1e-5)


@pytest.mark.parametrize("max_symbols", [1, 2, 4])
def test_the_path_is_that_of_a_plain_loop(graphs, scorer, noise, max_symbols):
    encoded = noise(3, 12, DIM)
    emitted = graphs[max_symbols][0](encoded, [12, 12, 12])
    for row in range(3):
        expected, score = slow_greedy(scorer, encoded[row], max_symbols)
        assert listed(emitted, row) == expected
        np.testing.assert_allclose(emitted.scores[row], score, rtol=1e-5)


def test_a_monotonic_path_is_that_of_a_plain_loop(networks, scorer, noise):
    prediction, joint = networks
    monotonic = JointNetwork(VOCABULARY, 6, monotonic=True)
    monotonic.build((DIM, UNITS))
    monotonic.set_weights(joint.get_weights())
    encoded = noise(2, 12, DIM)
    graph = tf.function(transducer_greedy, autograph=False)
    emitted = graph(prediction, monotonic, tf.constant(encoded), tf.constant([12, 12]))
    for row in range(2):
        expected, score = slow_greedy(scorer, encoded[row], 4, monotonic=True)
        assert len(set(expected[1])) == len(expected[1])
        assert listed(emitted, row) == expected
        np.testing.assert_allclose(emitted.scores[row], score, rtol=1e-5)


def test_utterances_of_a_batch_are_each_their_own(graphs, noise):
    encoded, num_frames = noise(3, 12, DIM), [12, 5, 0]
    together = graphs[2][0](encoded, num_frames)
    for row, count in enumerate(num_frames):
        alone = graphs[2][0](encoded[row : row + 1, :count], [count])
        assert listed(together, row) == listed(alone)
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-5)
        for all_rows, one in zip(together.state, alone.state, strict=True):
            np.testing.assert_allclose(all_rows[row], one[0], rtol=1e-4, atol=1e-6)


def test_padded_frames_say_nothing(graphs, noise):
    encoded = noise(1, 6, DIM)
    longer = np.concatenate([encoded, np.full([1, 5, DIM], np.nan, np.float32)], 1)
    alone, padded = graphs[2][0](encoded, [6]), graphs[2][0](longer, [6])
    assert listed(padded) == listed(alone)
    np.testing.assert_array_equal(padded.scores, alone.scores)


def test_no_frames_are_no_tokens_and_leave_the_state(networks, graphs):
    emitted = graphs[2][0](np.zeros([2, 0, DIM], np.float32), [0, 0])
    assert emitted.tokens.shape == emitted.frames.shape == (2, 0)
    assert emitted.scores.numpy().tolist() == [0, 0]
    for found, expected in zip(emitted.state, first_state(networks[0], 2), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_empty_batch_is_empty(graphs):
    emitted = graphs[2][0](np.zeros([0, 3, DIM], np.float32), np.zeros([0], np.int32))
    assert emitted.tokens.shape == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_chunks_have_the_tokens_of_the_whole(networks, graphs, noise, seed):
    encoded, num_frames = noise(2, 15, DIM, seed=seed), np.array([15, 9])
    cuts = np.sort(counted_generator(seed, "cuts").integers(0, 16, 4))
    start, resume = graphs[2]
    whole = start(encoded, num_frames)
    state, tokens, frames, score = first_state(networks[0], 2), [[], []], [[], []], 0.0
    for first, last in zip([0, *cuts], [*cuts, 15], strict=True):
        count = np.clip(num_frames - first, 0, last - first).astype(np.int32)
        emitted = resume(tf.constant(encoded[:, first:last]), tf.constant(count), state)
        for row in range(2):
            chunk_tokens, chunk_frames = listed(emitted, row)
            tokens[row] += chunk_tokens
            frames[row] += [int(first) + frame for frame in chunk_frames]
        score, state = score + emitted.scores, emitted.state
    assert [(tokens[row], frames[row]) for row in range(2)] == [listed(whole, r) for r in range(2)]
    np.testing.assert_allclose(score, whole.scores, rtol=1e-5)
    np.testing.assert_allclose(state.cell, whole.state.cell, rtol=1e-4, atol=1e-6)


def test_a_saved_model_carries_the_state(networks, scorer, noise, tmp_path):
    module = tf.Module()
    module.networks = networks
    row = tf.TensorSpec([None, UNITS])
    module.read = tf.function(
        lambda encoded, num_frames, predicted, output, cell: _flat(
            networks, encoded, num_frames, (predicted, output, cell)
        ),
        input_signature=[
            tf.TensorSpec([None, None, DIM]),
            tf.TensorSpec([None], tf.int32),
            *[row] * 3,
        ],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.read)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    encoded, num_frames = tf.constant(noise(1, 8, DIM)), tf.constant([4])
    state, tokens = first_state(networks[0], 1)._asdict(), []
    for first in (0, 4):
        found = served(encoded=encoded[:, first : first + 4], num_frames=num_frames, **state)
        tokens += found["tokens"][0].numpy().tolist()
        state = {name: found[name] for name in state}
    assert tokens == slow_greedy(scorer, encoded[0], 4)[0][0]


def _flat(networks, encoded, num_frames, state):
    emitted = transducer_greedy(*networks, encoded, num_frames, TransducerState(*state))
    return {"tokens": emitted.tokens, **emitted.state._asdict()}


def test_a_bfloat16_model_is_read_in_its_precision(noise):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        networks = make_networks(noise)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    emitted = transducer_greedy(*networks, tf.constant(noise(1, 3, DIM)), tf.constant([3]))
    assert emitted.state.cell.dtype == tf.bfloat16
    assert emitted.scores.dtype == tf.float32


def test_frames_are_times_of_words(graphs, noise):
    emitted = graphs[2][0](noise(1, 9, DIM), [9])
    tokens, frames = listed(emitted)
    ragged = tf.RaggedTensor.from_tensor(emitted.tokens, lengths=emitted.num_tokens)
    alignment = Alignment(emitted.frames, emitted.frames, emitted.scores)
    times = word_times(alignment, ragged, [f"▁{token}" for token in range(VOCABULARY)], 0.04)
    assert times.words.to_list() == [[str(token).encode() for token in tokens]]
    np.testing.assert_allclose(times.start[0], 0.04 * np.array(frames), rtol=1e-6)
    np.testing.assert_allclose(times.end[0], 0.04 * (np.array(frames) + 1), rtol=1e-6)


def test_a_frame_of_no_symbols_is_refused(networks):
    with pytest.raises(ValueError, match="max_symbols must be at least 1; got max_symbols=0"):
        transducer_greedy(*networks, tf.zeros([1, 2, DIM]), tf.constant([2]), max_symbols=0)
