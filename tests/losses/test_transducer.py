from itertools import combinations, combinations_with_replacement

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, logsumexp

from tfasr.losses import transducer
from tfasr.losses.transducer import token_frames, transducer_loss
from tfasr.models.transducer import JointNetwork

VOCABULARY, DIM, UNITS = 4, 3, 2
TOKENS = [[2, 0, 3], [1, -1, 7], [3, 3, 3]]
NUM_TOKENS = [3, 1, 3]
NUM_FRAMES = [4, 3, 2]
# Of each utterance's loss in a gradient.
WEIGHTS = np.array([1.0, -2.0, 0.5])


def make_joint(noise, scale=0.7, monotonic=False):
    joint = JointNetwork(VOCABULARY, 5, monotonic)
    joint.build((DIM, UNITS))
    for number, weight in enumerate(joint.weights):
        weight.assign(scale * noise(*weight.shape, seed=number))
    return joint


@pytest.fixture(scope="module")
def joint(noise):
    return make_joint(noise)


@pytest.fixture(scope="module")
def given(noise):
    """Encoding and prediction of three utterances."""
    return noise(3, 4, DIM), noise(3, 4, UNITS)


def loss_and_gradients(joint, given, lengths=(NUM_FRAMES, NUM_TOKENS), weights=WEIGHTS, **settings):
    """Losses, and gradients of what is given and of the joint network's variables."""
    encoded, predicted = (tf.constant(x, tf.float32) for x in given)
    num_frames, num_tokens = (tf.constant(x, tf.int32) for x in lengths)
    tokens = tf.constant(settings.pop("tokens", TOKENS), tf.int32)
    with tf.GradientTape() as tape:
        tape.watch([encoded, predicted])
        losses = transducer_loss(
            joint, encoded, num_frames, predicted, tokens, num_tokens, **settings
        )
        total = tf.reduce_sum(losses * tf.constant(weights, tf.float32))
    gradients = tape.gradient(total, [encoded, predicted, *joint.trainable_variables])
    return losses.numpy(), [gradient.numpy() for gradient in gradients]


def exact_scores(values, row):
    """Log-probabilities [T, U + 1, V + 1] of an utterance, in float64."""
    encoded, predicted, *weights = values
    frames, tokens = NUM_FRAMES[row], NUM_TOKENS[row]
    of_frames = encoded[row, :frames, None] @ weights[0] + weights[1]
    of_places = predicted[row, : tokens + 1] @ weights[2] + weights[3]
    return log_softmax(np.tanh(of_frames + of_places) @ weights[4] + weights[5], -1)


def alignments(scores, tokens, monotonic=False):
    """Of each alignment: the blanks' and the tokens' log-probabilities."""
    frames, places, _ = scores.shape
    choose = combinations if monotonic else combinations_with_replacement
    for of_tokens in choose(range(frames), places - 1):
        ended = [frame for frame in range(frames) if not (monotonic and frame in of_tokens)]
        emitted = [sum(of <= frame for of in of_tokens) for frame in ended]
        labels = [scores[of, place, tokens[place]] for place, of in enumerate(of_tokens)]
        yield sum(scores[ended, emitted, -1]), sum(labels)


def exact_loss(values, row, monotonic=False):
    scores = exact_scores(values, row)
    return -logsumexp([sum(both) for both in alignments(scores, TOKENS[row], monotonic)])


def exact_values(joint, given):
    return [np.asarray(x, float) for x in (*given, *joint.trainable_variables)]


def numeric_gradient(function, values, step=1e-5):
    gradients = [np.zeros_like(value) for value in values]
    for value, gradient in zip(values, gradients, strict=True):
        for place in np.ndindex(*value.shape):
            middle = value[place]
            ends = []
            for value[place] in (middle + step, middle - step):
                ends.append(function(values))
            value[place] = middle
            gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradients


def test_loss_by_hand():
    # All logits are 0: each of two alignments takes two blanks and a token of 1/5.
    joint = JointNetwork(VOCABULARY, 5)
    joint.build((DIM, UNITS))
    for weight in joint.weights:
        weight.assign(tf.zeros_like(weight))
    losses, _ = loss_and_gradients(
        joint, (np.ones([1, 2, DIM]), np.ones([1, 2, UNITS])), ([2], [1]), [1.0], tokens=[[3]]
    )
    np.testing.assert_allclose(losses, [-np.log(2 / 125)], rtol=1e-6)


@pytest.mark.parametrize("row", range(3))
def test_loss_is_that_of_all_alignments(joint, given, row):
    # The third utterance has more tokens than frames.
    losses, _ = loss_and_gradients(joint, given)
    np.testing.assert_allclose(losses[row], exact_loss(exact_values(joint, given), row), rtol=1e-5)


def test_gradients_are_those_of_all_alignments(joint, given):
    _, gradients = loss_and_gradients(joint, given)
    expected = numeric_gradient(
        lambda values: sum(WEIGHTS[row] * exact_loss(values, row) for row in range(3)),
        exact_values(joint, given),
    )
    assert len(gradients) == 8
    for ours, exact in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-5)


def test_monotonic_loss_and_gradients_are_those_of_all_alignments(noise, given):
    # The third utterance has more tokens than frames: no alignment, no loss, no gradient.
    joint = make_joint(noise, monotonic=True)
    losses, gradients = loss_and_gradients(joint, given)
    values = exact_values(joint, given)
    exact = [exact_loss(values, row, monotonic=True) for row in range(2)]
    np.testing.assert_allclose(losses, [*exact, 0], rtol=1e-5)
    expected = numeric_gradient(
        lambda values: sum(WEIGHTS[row] * exact_loss(values, row, True) for row in range(2)), values
    )
    for ours, exact in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-5)


def test_fastemit_scales_the_gradient_by_the_tokens(joint, given):
    # The gradient of the sum over alignments of their shares, held fast, times their scores.
    values = exact_values(joint, given)
    shares = []
    for row in range(3):
        scores = [sum(both) for both in alignments(exact_scores(values, row), TOKENS[row])]
        shares.append(np.exp(scores - logsumexp(scores)))

    def drawn(values):
        total = 0.0
        for row in range(3):
            every = np.array([*alignments(exact_scores(values, row), TOKENS[row])])
            total -= WEIGHTS[row] * shares[row] @ (every @ [1.0, 1.3])
        return total

    _, gradients = loss_and_gradients(joint, given, fastemit=0.3)
    for ours, exact in zip(gradients, numeric_gradient(drawn, values), strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-5)


def test_fastemit_leaves_the_value_as_it_is(joint, given):
    plain, _ = loss_and_gradients(joint, given)
    drawn, _ = loss_and_gradients(joint, given, fastemit=0.3)
    np.testing.assert_array_equal(drawn, plain)


@pytest.mark.parametrize("logits", [1, 12, 40, 130])
def test_chunks_change_nothing(joint, given, monkeypatch, logits):
    whole = loss_and_gradients(joint, given)
    monkeypatch.setattr(transducer, "_CHUNK", max(logits, 6))
    losses, gradients = loss_and_gradients(joint, given)
    np.testing.assert_allclose(losses, whole[0], rtol=1e-6)
    for ours, expected in zip(gradients, whole[1], strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_padding_and_neighbours_change_neither_loss_nor_gradient(joint, given):
    losses, gradients = loss_and_gradients(joint, given)
    for row, (frames, tokens) in enumerate(zip(NUM_FRAMES, NUM_TOKENS, strict=True)):
        real = slice(frames), slice(tokens + 1)
        alone = [x[row : row + 1, part] for x, part in zip(given, real, strict=True)]
        loss, of_alone = loss_and_gradients(
            joint, alone, ([frames], [tokens]), [WEIGHTS[row]], tokens=[TOKENS[row][:tokens]]
        )
        np.testing.assert_allclose(losses[row], loss[0], rtol=1e-6)
        for ours, expected, part in zip(gradients[:2], of_alone[:2], real, strict=True):
            np.testing.assert_allclose(ours[row, part], expected[0], atol=1e-6)
            assert not ours[row, part.stop :].any()


def test_padding_may_be_no_number(joint, given):
    losses, gradients = loss_and_gradients(joint, given)
    given = [x.copy() for x in given]
    given[0][1, 3:] = given[1][1, 2:] = np.nan
    padded, of_padded = loss_and_gradients(joint, given)
    np.testing.assert_array_equal(padded, losses)
    for ours, expected in zip(of_padded[:2], gradients[:2], strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_no_tokens_cost_the_path_of_blanks(joint, given):
    losses, gradients = loss_and_gradients(
        joint, (given[0], given[1][:, :1]), (NUM_FRAMES, [0] * 3), tokens=np.zeros([3, 0])
    )
    blanks = joint(given[0], given[1][:, :1]).numpy().astype(float)
    blanks = -log_softmax(blanks, -1)[..., -1]
    expected = [blanks[row, :frames].sum() for row, frames in enumerate(NUM_FRAMES)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert gradients[0].any()


@pytest.mark.parametrize("num_frames", [[4, 0, 2], [0, 0, 0]])
def test_no_frames_give_no_loss_and_no_gradient(joint, given, num_frames):
    losses, gradients = loss_and_gradients(joint, given, (num_frames, NUM_TOKENS))
    assert losses[1] == 0
    assert not gradients[0][1].any()
    assert not gradients[1][1].any()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_batch_without_a_frame_costs_nothing(joint, given):
    empty = (given[0][:, :0], given[1])
    losses, gradients = loss_and_gradients(joint, empty, ([0] * 3, NUM_TOKENS))
    assert losses.tolist() == [0, 0, 0]
    assert not any(gradient.any() for gradient in gradients)


def test_an_utterance_of_no_weight_has_no_gradient(joint, given):
    _, gradients = loss_and_gradients(joint, given, weights=[0.0, 1.0, 0.0])
    _, of_second = loss_and_gradients(joint, [x[1:2] for x in given], ([3], [1]), [1.0],
                                      tokens=TOKENS[1:2])  # fmt: skip
    np.testing.assert_allclose(gradients[0][1], of_second[0][0], atol=1e-6)
    np.testing.assert_allclose(gradients[4], of_second[4], atol=1e-6)
    assert not gradients[0][[0, 2]].any()


def test_what_is_no_number_stays_none(joint, given):
    encoded = given[0].copy()
    encoded[0, 1] = np.nan
    losses, gradients = loss_and_gradients(joint, (encoded, given[1]))
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1:]).all()
    assert np.isnan(gradients[0][0]).any()


def test_probabilities_too_small_for_float32_are_summed(noise, given):
    joint = make_joint(noise, 100.0)
    values = exact_values(joint, given)
    assert min(exact_scores(values, row).min() for row in range(3)) < np.log(np.finfo("f4").tiny)
    losses, gradients = loss_and_gradients(joint, given)
    np.testing.assert_allclose(losses, [exact_loss(values, row) for row in range(3)], rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def plain_loss_and_gradient(logits, tokens):
    """Of an utterance's logits [T, U + 1, V + 1], by the plain recursions in float64."""
    scores = log_softmax(logits, -1)
    frames, places, _ = scores.shape
    blanks, next_tokens = scores[..., -1], [*tokens, 0]
    labels = np.stack([scores[:, u, token] for u, token in enumerate(next_tokens)], 1)
    before = np.full([frames + 1, places + 1], -np.inf)
    after = np.full([frames + 1, places + 1], -np.inf)
    before[0, 0], after[frames, places - 1] = 0, 0
    for frame in range(frames):
        for place in range(places):
            stay, move = before[frame, place] + np.array([blanks, labels])[:, frame, place]
            before[frame + 1, place] = np.logaddexp(before[frame + 1, place], stay)
            before[frame, place + 1] = np.logaddexp(before[frame, place + 1], move)
    for frame in reversed(range(frames)):
        for place in reversed(range(places)):
            ways = after[frame + 1, place], after[frame, place + 1]
            after[frame, place] = np.logaddexp(
                *(ways + np.array([blanks, labels])[:, frame, place])
            )
    total = after[0, 0]
    blank = np.exp(before[:-1, :-1] + blanks + after[1:, :-1] - total)
    label = np.exp(before[:-1, :-1] + labels + after[:-1, 1:] - total)
    gradient = np.exp(scores) * (blank + label)[..., None]
    gradient[..., -1] -= blank
    for place, token in enumerate(next_tokens):
        gradient[:, place, token] -= label[:, place]
    return -total, gradient


def test_a_long_utterance_costs_what_it_does_in_float64(noise):
    joint, frames, tokens = make_joint(noise), 300, 60
    given = noise(1, frames, DIM), noise(1, tokens + 1, UNITS)
    labels = np.arange(tokens) * 3 % VOCABULARY
    losses, gradients = loss_and_gradients(
        joint, given, ([frames], [tokens]), [1.0], tokens=labels[None]
    )
    encoded, predicted, *weights = exact_values(joint, given)
    of_places = predicted[0] @ weights[2] + weights[3]
    hidden = np.tanh((encoded[0] @ weights[0] + weights[1])[:, None] + of_places)
    loss, gradient = plain_loss_and_gradient(hidden @ weights[4] + weights[5], labels)
    of_sum = (gradient @ weights[4].T) * (1 - hidden**2)
    np.testing.assert_allclose(losses, [loss], rtol=1e-5)
    # Sums to about 600 are rounded by 3e-5, which is then the error of a share.
    close = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(gradients[0][0], of_sum.sum(1) @ weights[0].T, **close)
    np.testing.assert_allclose(gradients[1][0], of_sum.sum(0) @ weights[2].T, **close)
    of_weights = np.einsum("tuj,tuv->jv", hidden, gradient)
    np.testing.assert_allclose(gradients[6], of_weights, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(gradients[7], gradient.sum((0, 1)), rtol=1e-3, atol=1e-3)


@pytest.fixture
def mixed(noise):
    """The joint network as a bfloat16 model has it."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    joint = make_joint(noise)
    keras.mixed_precision.set_global_policy(before)
    return joint


def test_bfloat16_products_come_close(joint, mixed, given):
    exact = loss_and_gradients(joint, given)
    losses, gradients = loss_and_gradients(mixed, given)
    # Each of a few products in turn rounds by up to 1/512.
    np.testing.assert_allclose(losses, exact[0], rtol=1e-2)
    for ours, expected in zip(gradients, exact[1], strict=True):
        assert 0 < np.linalg.norm(ours - expected) < 0.03 * np.linalg.norm(expected)


def test_a_bfloat16_encoding_has_a_bfloat16_gradient(mixed, given):
    encoded, predicted = (tf.cast(x, tf.bfloat16) for x in given)
    with tf.GradientTape() as tape:
        tape.watch([encoded, predicted])
        losses = transducer_loss(
            mixed, encoded, tf.constant(NUM_FRAMES), predicted,
            tf.constant(TOKENS), tf.constant(NUM_TOKENS),
        )  # fmt: skip
    gradients = tape.gradient(losses, [encoded, predicted, *mixed.trainable_variables])
    assert losses.dtype == tf.float32
    assert [x.dtype.name for x in gradients] == ["bfloat16"] * 2 + ["float32"] * 6


def test_a_graph_for_all_shapes_computes_the_same(joint, given):
    lengths = tf.TensorSpec([None], tf.int32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, DIM]),
            tf.TensorSpec([None, None, UNITS]),
            tf.TensorSpec([None, None], tf.int32),
            lengths,
            lengths,
        ],
        autograph=False,
    )
    def graph(encoded, predicted, tokens, num_frames, num_tokens):
        with tf.GradientTape() as tape:
            losses = transducer_loss(joint, encoded, num_frames, predicted, tokens, num_tokens)
            total = tf.reduce_sum(losses * tf.constant(WEIGHTS, tf.float32))
        return losses, tape.gradient(total, joint.trainable_variables)

    losses, gradients = graph(*given, TOKENS, NUM_FRAMES, NUM_TOKENS)
    expected, of_all = loss_and_gradients(joint, given)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for ours, of_eager in zip(gradients, of_all[2:], strict=True):
        np.testing.assert_allclose(ours, of_eager, atol=2e-6)


def test_frames_of_tokens_are_where_most_alignments_emit_them(joint, given):
    values = exact_values(joint, given)
    expected = np.full((3, 3), -1)
    for row, (frames, tokens) in enumerate(zip(NUM_FRAMES, NUM_TOKENS, strict=True)):
        scores = exact_scores(values, row)
        emitted = np.zeros((frames, tokens))
        ways = combinations_with_replacement(range(frames), tokens)
        for way, parts in zip(ways, alignments(scores, TOKENS[row]), strict=True):
            emitted[way, range(tokens)] += np.exp(sum(parts))
        expected[row, :tokens] = np.maximum.accumulate(emitted.argmax(0))
    found = token_frames(
        joint,
        tf.constant(given[0]),
        tf.constant(NUM_FRAMES),
        tf.constant(given[1]),
        tf.constant(TOKENS),
        tf.constant(NUM_TOKENS),
    )
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 2


def test_without_frames_no_token_has_one(joint, given):
    lengths = tf.zeros([3], tf.int32), tf.constant(NUM_TOKENS)
    found = token_frames(
        joint,
        tf.constant(given[0]),
        lengths[0],
        tf.constant(given[1]),
        tf.constant(TOKENS),
        lengths[1],
    )
    assert (found.numpy() == -1).all()
