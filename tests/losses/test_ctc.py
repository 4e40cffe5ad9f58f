from itertools import groupby, product

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, logsumexp

from tfasr.losses.ctc import ctc_loss, required_frames


def brute_force_loss(logits, tokens):
    """Minus the log of the summed probability of all paths that collapse to the tokens."""
    log_probabilities = log_softmax(logits, axis=1)
    frames, blank = len(logits), logits.shape[1] - 1
    scores = [
        sum(log_probabilities[frame, token] for frame, token in enumerate(path))
        for path in product(range(blank + 1), repeat=frames)
        if [token for token, _ in groupby(path) if token != blank] == list(tokens)
    ]
    return -logsumexp(scores)


def brute_force_gradient(logits, tokens, step=1e-5):
    gradient = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        change = np.zeros_like(logits)
        change[place] = step
        higher, lower = (brute_force_loss(logits + sign * change, tokens) for sign in (1, -1))
        gradient[place] = (higher - lower) / (2 * step)
    return gradient


def plain_loss_and_gradient(logits, tokens):
    """The recursion over tokens and blanks as it stands in the books, in float64."""
    scores, blank = log_softmax(logits.astype(float), axis=1), logits.shape[1] - 1
    states = np.array([blank, *(state for token in tokens for state in (token, blank))])
    forward = sums_of_beginnings(scores[:, states], states)
    backward = sums_of_beginnings(scores[::-1, states[::-1]], states[::-1])[::-1, ::-1]
    log_sum, gradient = logsumexp(forward[-1, -2:]), np.exp(scores)
    occupancy = np.exp(forward + backward - scores[:, states] - log_sum)
    for state, share in zip(states, occupancy.T, strict=True):
        gradient[:, state] -= share
    return -log_sum, gradient


def sums_of_beginnings(scores, states):
    may_skip = np.array([n >= 2 and states[n] != states[n - 2] for n in range(len(states))])
    sums = np.full(scores.shape, -np.inf)
    sums[0, :2] = scores[0, :2]
    for frame in range(1, len(scores)):
        stay = sums[frame - 1]
        padded = np.concatenate([[-np.inf, -np.inf], stay])
        skip = np.where(may_skip, padded[:-2], -np.inf)
        sums[frame] = scores[frame] + logsumexp([stay, padded[1:-1], skip], axis=0)
    return sums


def loss_and_gradient(logits, num_frames, tokens, num_tokens):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = ctc_loss(
            logits,
            tf.constant(num_frames),
            tf.constant(tokens, tf.int32),
            tf.constant(num_tokens),
        )
    return losses.numpy(), tape.gradient(losses, logits).numpy()


def assert_plain(logits, num_frames, tokens, num_tokens, atol=1e-6):
    """Loss and gradient are those of the plain recursion, utterance by utterance."""
    losses, gradient = loss_and_gradient(logits, num_frames, tokens, num_tokens)
    for number, (frames, length) in enumerate(zip(num_frames, num_tokens, strict=True)):
        loss, expected = plain_loss_and_gradient(logits[number, :frames], tokens[number][:length])
        np.testing.assert_allclose(losses[number], loss, rtol=1e-6, atol=atol)
        np.testing.assert_allclose(gradient[number, :frames], expected, atol=atol)
        assert not gradient[number, frames:].any()


TARGETS = [[0], [1, 0], [0, 0], [0, 1, 0], [1, 1, 0]]


def test_loss_by_hand():
    # Two frames, each with probability 1/4 for the token and 3/4 for the blank: token-token,
    # token-blank and blank-token make 1/16 + 3/16 + 3/16.
    logits = np.log([[[0.25, 0.75], [0.25, 0.75]]])
    losses, _ = loss_and_gradient(logits, [2], [[0]], [1])
    np.testing.assert_allclose(losses, [-np.log(7 / 16)], rtol=1e-5)


@pytest.mark.parametrize("tokens", TARGETS)
def test_loss_is_that_of_all_alignments(noise, tokens):
    logits = 2 * noise(1, 5, 3)
    losses, _ = loss_and_gradient(logits, [5], [tokens], [len(tokens)])
    np.testing.assert_allclose(losses, [brute_force_loss(logits[0], tokens)], rtol=1e-5)


@pytest.mark.parametrize("tokens", TARGETS)
def test_gradient_is_that_of_all_alignments(noise, tokens):
    logits = 2 * noise(1, 4, 3)
    _, gradient = loss_and_gradient(logits, [4], [tokens], [len(tokens)])
    expected = brute_force_gradient(logits[0].astype(float), tokens)
    np.testing.assert_allclose(gradient[0], expected, atol=1e-5)


def test_utterances_of_a_batch_are_each_their_own(noise):
    logits, padded = 2 * noise(3, 5, 3), np.array([[0, 1, 0], [1, 0, 0], [1, 1, 0]])
    losses, _ = loss_and_gradient(logits, [5, 4, 3], padded, [3, 1, 2])
    expected = [
        brute_force_loss(logits[0], [0, 1, 0]),
        brute_force_loss(logits[1, :4], [1]),
        brute_force_loss(logits[2, :3], [1, 1]),
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_padding_changes_neither_loss_nor_gradient(noise):
    logits = 2 * noise(1, 4, 3)
    alone, gradient = loss_and_gradient(logits, [4], [[1, 0]], [2])
    longer = np.concatenate([logits, 100 * noise(1, 3, 3, seed=1)], 1)
    padded, wider = loss_and_gradient(longer, [4], [[1, 0, 1, -1]], [2])
    np.testing.assert_allclose(padded, alone, rtol=1e-6)
    np.testing.assert_allclose(wider[:, :4], gradient, atol=1e-6)
    np.testing.assert_array_equal(wider[:, 4:], np.zeros([1, 3, 3]))


@pytest.mark.parametrize(
    ("tokens", "frames"), [([0, 1, 0], 2), ([0, 0], 2), ([1, 1, 1], 4), ([0], 0)]
)
def test_too_few_frames_give_no_loss_and_no_gradient(noise, tokens, frames):
    # Beside an utterance that has enough of them.
    logits, both = noise(2, 5, 3), [tokens, tokens]
    losses, gradient = loss_and_gradient(logits, [frames, 5], both, [len(tokens)] * 2)
    assert losses[0] == 0
    np.testing.assert_array_equal(gradient[0], np.zeros([5, 3]))
    np.testing.assert_allclose(losses[1], brute_force_loss(logits[1], tokens), rtol=1e-5)


def test_as_many_frames_as_are_required_suffice(noise):
    logits = noise(1, 5, 3)
    losses, _ = loss_and_gradient(logits, [5], [[1, 1, 1]], [3])
    np.testing.assert_allclose(losses, [brute_force_loss(logits[0], [1, 1, 1])], rtol=1e-5)


@pytest.mark.parametrize("width", [0, 3])
def test_no_tokens_cost_the_path_of_blanks(noise, width):
    logits = 2 * noise(1, 4, 3)
    losses, gradient = loss_and_gradient(logits, [4], np.zeros([1, width]), [0])
    np.testing.assert_allclose(losses, [-log_softmax(logits[0], axis=1)[:, 2].sum()], rtol=1e-5)
    np.testing.assert_allclose(
        gradient[0], brute_force_gradient(logits[0].astype(float), []), atol=1e-5
    )


def test_an_utterance_without_tokens_stands_beside_others(noise):
    logits = 2 * noise(2, 4, 3)
    losses, gradient = loss_and_gradient(logits, [3, 4], [[0, 1], [1, 0]], [0, 2])
    expected = [brute_force_loss(logits[0, :3], []), brute_force_loss(logits[1], [1, 0])]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(gradient[0, 3], np.zeros(3))


def test_no_frames_and_no_tokens_cost_nothing(noise):
    losses, gradient = loss_and_gradient(noise(1, 4, 3), [0], [[0]], [0])
    assert losses == [0]
    assert not gradient.any()


def test_bfloat16_logits_are_summed_in_float32(noise):
    logits = tf.cast(noise(1, 5, 3), tf.bfloat16)
    losses = ctc_loss(logits, tf.constant([5]), tf.constant([[0, 1]]), tf.constant([2]))
    exact = tf.cast(logits, tf.float32).numpy()
    np.testing.assert_allclose(losses, [brute_force_loss(exact[0], [0, 1])], rtol=1e-5)


def test_a_graph_for_all_shapes_computes_the_same(noise):
    signature = [
        tf.TensorSpec([None, None, 3]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int32),
    ]
    graph = tf.function(ctc_loss, input_signature=signature, autograph=False)
    arguments = [tf.constant(v) for v in (noise(2, 5, 3), [5, 1], [[0, 1], [0, 0]], [2, 2])]
    np.testing.assert_allclose(graph(*arguments), ctc_loss(*arguments), rtol=1e-6)


@pytest.mark.parametrize("tokens", TARGETS)
def test_the_plain_recursion_is_that_of_all_alignments(noise, tokens):
    logits = 2 * noise(4, 3).astype(float)
    loss, gradient = plain_loss_and_gradient(logits, tokens)
    np.testing.assert_allclose(loss, brute_force_loss(logits, tokens), rtol=1e-10)
    expected = brute_force_gradient(logits, tokens)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


# The loop takes eight frames a turn.
@pytest.mark.parametrize("frames", [15, 16, 17])
def test_ragged_utterances_with_repeats_are_those_of_the_plain_recursion(noise, frames):
    tokens = [[2, 2, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [3, 0, 3, 0, 0, 0], [1, 2, 3, 4, 5, 0]]
    assert_plain(3 * noise(4, frames, 7), [frames, 11, 4, 9], tokens, [6, 6, 2, 0])


def test_long_utterances_are_those_of_the_plain_recursion(noise):
    tokens = np.abs(100 * noise(2, 300)).astype(int) % 12
    assert_plain(5 * noise(2, 1500, 13), [1500, 1400], tokens, [300, 150])


def test_extreme_logits_are_those_of_the_plain_recursion(noise):
    assert_plain(1e4 * noise(2, 30, 6), [30, 25], [[0, 1, 1, 4, 3]] * 2, [5, 3])


@pytest.mark.parametrize("likely", [3, 5])
def test_classes_of_no_probability_in_float32_still_have_a_logarithm(noise, likely):
    # In the first frames another class (3) or the blank (5) has all there is.
    logits = noise(2, 12, 6)
    logits[:, :5, likely] += 1e4
    assert_plain(logits, [12, 9], [[0, 1, 1]] * 2, [3, 2])


def test_gradient_is_weighted_as_the_losses_are(noise):
    logits, tokens = tf.constant(noise(3, 5, 3)), tf.constant([[0, 1], [1, 1], [0, 0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        losses = ctc_loss(logits, tf.constant([5, 2, 4]), tokens, tf.constant([2, 2, 1]))
        total = tf.reduce_sum(losses)
        weighted = tf.reduce_sum(losses * [2.0, 3.0, -0.5])
    expected = tape.gradient(total, logits) * [[[2.0]], [[3.0]], [[-0.5]]]
    np.testing.assert_allclose(tape.gradient(weighted, logits), expected, rtol=1e-6)


def test_bfloat16_logits_have_a_bfloat16_gradient(noise):
    logits = tf.cast(noise(1, 5, 3), tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = ctc_loss(logits, tf.constant([5]), tf.constant([[0, 1]]), tf.constant([2]))
    gradient = tape.gradient(losses, logits)
    assert gradient.dtype == tf.bfloat16
    _, expected = plain_loss_and_gradient(tf.cast(logits, tf.float32).numpy()[0], [0, 1])
    # bfloat16 has eight binary digits.
    np.testing.assert_allclose(tf.cast(gradient, tf.float32)[0], expected, atol=2**-9)


def test_a_graph_for_all_shapes_has_the_same_gradient(noise):
    arguments = [tf.constant(v) for v in ([5, 1], [[0, 1], [0, 0]], [2, 2])]

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])], autograph=False)
    def gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = ctc_loss(logits, *arguments)
        return tape.gradient(losses, logits)

    logits = noise(2, 5, 3)
    _, expected = loss_and_gradient(logits, *arguments)
    np.testing.assert_allclose(gradient(logits), expected, atol=1e-6)


def test_a_graph_without_eager_execution_computes_the_same(noise):
    # Such as TFF makes. The second utterance is too short because its tokens are equal.
    logits, arguments = noise(2, 5, 3), ([5, 2], [[0, 0], [1, 1]], [2, 2])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        given = tf.constant(logits)
        losses = ctc_loss(given, *(tf.constant(argument) for argument in arguments))
        results = session.run([losses, *tf.gradients(losses, given)])
    for result, expected in zip(results, loss_and_gradient(logits, *arguments), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_a_batch_of_none_has_no_losses(noise):
    losses, gradient = loss_and_gradient(
        noise(0, 5, 3), np.zeros(0, np.int32), np.zeros([0, 2]), np.zeros(0, np.int32)
    )
    assert losses.shape == (0,)
    assert gradient.shape == (0, 5, 3)


def test_more_frames_than_there_are_logits_are_refused(noise):
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_frames must not exceed T"):
        loss_and_gradient(noise(1, 5, 3), [6], [[0, 1]], [2])


def test_more_tokens_than_there_are_labels_are_refused(noise):
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_tokens must not exceed U"):
        loss_and_gradient(noise(1, 5, 3), [5], [[0, 1]], [3])


@pytest.mark.parametrize(
    ("tokens", "num_tokens", "frames"),
    [
        ([3, 1, 2], 3, 3),
        ([3, 3, 2], 3, 4),
        ([3, 3, 3], 3, 5),
        ([3, 3, 3], 2, 3),
        ([3, 0, 0], 1, 1),
        ([0, 0, 0], 0, 0),
        ([], 0, 0),
    ],
)
def test_required_frames_by_hand(tokens, num_tokens, frames):
    required = required_frames(tf.constant([tokens], tf.int32), tf.constant([num_tokens]))
    assert required.numpy().tolist() == [frames]
