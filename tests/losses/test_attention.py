import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.losses.attention import label_smoothed_loss


def slow_loss(logits, targets, smoothing):
    """KL of one utterance in float64, with the smoothed targets written out."""
    classes = logits.shape[1]
    total = 0.0
    for place, target in enumerate(targets):
        q = np.full(classes, smoothing / (classes - 1))
        q[target] = 1 - smoothing
        held = q > 0
        total += np.sum(q[held] * (np.log(q[held]) - log_softmax(logits[place])[held]))
    return total


def central_differences(logits, targets, smoothing, step=1e-5):
    gradient = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        change = np.zeros_like(logits)
        change[place] = step
        higher, lower = (slow_loss(logits + s * change, targets, smoothing) for s in (1, -1))
        gradient[place] = (higher - lower) / (2 * step)
    return gradient


def loss_and_gradient(logits, targets, lengths, smoothing):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = label_smoothed_loss(
            logits, tf.constant(targets, tf.int32), tf.constant(lengths), smoothing
        )
    return losses.numpy(), tape.gradient(losses, logits).numpy()


def test_loss_by_hand():
    # p = (1/2, 1/4, 1/4) against q = (4/5, 1/10, 1/10): 4/5 ln 8/5 + 2/10 ln 2/5.
    logits = np.log([[[0.5, 0.25, 0.25]]])
    losses, gradient = loss_and_gradient(logits, [[0]], [1], 0.2)
    np.testing.assert_allclose(losses, [0.8 * np.log(1.6) + 0.2 * np.log(0.4)], rtol=1e-5)
    np.testing.assert_allclose(gradient, [[[-0.3, 0.15, 0.15]]], atol=1e-6)


def test_uniform_predictions_by_hand():
    # q = (9/10, 1/30, 1/30, 1/30) from 1/4 each: ln 4 less q's entropy, for each of two tokens.
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(1 / 30))
    losses, _ = loss_and_gradient(np.full([1, 2, 4], 7.0), [[3, 1]], [2], 0.1)
    np.testing.assert_allclose(losses, [2 * (np.log(4) - entropy)], rtol=1e-5)


def test_predicting_the_smoothed_target_costs_nothing_and_pulls_nowhere():
    losses, gradient = loss_and_gradient(
        np.log([[[0.1 / 3] * 2 + [0.9, 0.1 / 3]]]), [[2]], [1], 0.1
    )
    np.testing.assert_allclose(losses, [0], atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros([1, 1, 4]), atol=1e-6)


def test_without_smoothing_it_is_the_negative_log_probability():
    losses, _ = loss_and_gradient(
        np.log([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]]), [[1, 2]], [2], 0.0
    )
    np.testing.assert_allclose(losses, [-np.log(0.25) - np.log(0.7)], rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_is_the_divergence_from_written_out_targets(noise, smoothing):
    logits, targets = 3 * noise(2, 4, 6), [[0, 5, 2, 2], [1, 3, 4, 0]]
    losses, _ = loss_and_gradient(logits, targets, [4, 2], smoothing)
    expected = [
        slow_loss(logits[0].astype(float), targets[0], smoothing),
        slow_loss(logits[1].astype(float), targets[1][:2], smoothing),
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_gradient_is_that_of_central_differences(noise, smoothing):
    logits, targets = 2 * noise(1, 3, 5), [4, 0, 2]
    _, gradient = loss_and_gradient(logits, [targets], [3], smoothing)
    expected = central_differences(logits[0].astype(float), targets, smoothing)
    np.testing.assert_allclose(gradient[0], expected, atol=1e-5)


def test_the_gradient_is_scaled_by_what_the_loss_is_used_for(noise):
    logits = tf.constant(noise(2, 3, 5))
    targets, lengths = tf.zeros([2, 3], tf.int32), tf.constant([3, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        losses = label_smoothed_loss(logits, targets, lengths, 0.1)
        weighed = tf.reduce_sum(losses * [2.0, -3.0])
    expected = tape.gradient(losses, logits) * np.array([2, -3])[:, None, None]
    np.testing.assert_allclose(tape.gradient(weighed, logits), expected, atol=1e-6)


def test_padding_changes_neither_loss_nor_gradient(noise):
    logits = 2 * noise(1, 3, 5)
    alone, gradient = loss_and_gradient(logits, [[4, 0, 2]], [3], 0.1)
    longer = np.concatenate([logits, 100 * noise(1, 2, 5, seed=1)], 1)
    padded, wider = loss_and_gradient(longer, [[4, 0, 2, -1, 99]], [3], 0.1)
    np.testing.assert_allclose(padded, alone, rtol=1e-6)
    np.testing.assert_allclose(wider[:, :3], gradient, atol=1e-6)
    np.testing.assert_array_equal(wider[:, 3:], np.zeros([1, 2, 5]))


def test_what_all_logits_have_in_common_changes_nothing(noise):
    # Of many classes, whose logits would sum to millions.
    logits = np.round(noise(1, 2, 5000), 2)
    near, _ = loss_and_gradient(logits, [[4, 0]], [2], 0.1)
    far, _ = loss_and_gradient(logits + 512, [[4, 0]], [2], 0.1)
    # Logits near 512 are themselves rounded to 3e-5.
    np.testing.assert_allclose(far, near, rtol=1e-5)


def test_no_token_costs_nothing(noise):
    losses, gradient = loss_and_gradient(noise(1, 2, 5), [[0, 0]], [0], 0.1)
    assert losses == [0]
    assert not gradient.any()


def test_bfloat16_logits_are_summed_in_float32(noise):
    logits = tf.cast(noise(1, 3, 5), tf.bfloat16)
    losses = label_smoothed_loss(logits, tf.constant([[4, 0, 2]]), tf.constant([3]), 0.1)
    exact = tf.cast(logits, tf.float64).numpy()
    np.testing.assert_allclose(losses, [slow_loss(exact[0], [4, 0, 2], 0.1)], rtol=1e-5)


def test_a_graph_for_all_shapes_computes_the_same(noise):
    signature = [
        tf.TensorSpec([None, None, None]),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int32),
    ]
    arguments = [tf.constant(v) for v in (noise(2, 3, 5), [[4, 0, 2], [1, 1, 0]], [3, 2])]

    def loss(*arguments):
        return label_smoothed_loss(*arguments, 0.1)

    graph = tf.function(loss, input_signature=signature, autograph=False)
    np.testing.assert_allclose(graph(*arguments), loss(*arguments), rtol=1e-6)


def test_no_target_is_written_out_over_the_classes():
    @tf.function(autograph=False)
    def gradient(logits, targets):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = label_smoothed_loss(logits, targets, tf.constant([7, 3]), 0.1)
        return tape.gradient(losses, logits)

    signature = tf.TensorSpec([2, 7, 11]), tf.TensorSpec([2, 7], tf.int32)
    kinds = {op.type for op in gradient.get_concrete_function(*signature).graph.get_operations()}
    assert "SparseSoftmaxCrossEntropyWithLogits" in kinds
    assert not kinds & {"OneHot", "ScatterNd", "Fill"}
