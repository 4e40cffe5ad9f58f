import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.configs.objective import JointObjective
from tfasr.losses.attention import label_smoothed_loss
from tfasr.losses.joint import decoder_losses, joint_loss

CTC, LEFT, RIGHT = (tf.constant(v) for v in ([10.0, 0.0], [20.0, 1.0], [40.0, 3.0]))


def test_equation_16_by_hand():
    # 3 + 0.7 (14 + 12), and 0.7 (0.7 + 0.9).
    losses = joint_loss(JointObjective(), CTC, LEFT, RIGHT)
    np.testing.assert_allclose(losses, [21.2, 1.12], rtol=1e-6)


def test_without_a_right_decoder_by_hand():
    losses = joint_loss(JointObjective(ctc_weight=0.25, reverse_weight=0), CTC, LEFT, None)
    np.testing.assert_allclose(losses, [17.5, 0.75], rtol=1e-6)


def test_a_weight_without_a_right_decoder_is_refused():
    with pytest.raises(ValueError, match=r"reverse_weight must be 0 .*; got reverse_weight=0.3"):
        joint_loss(JointObjective(), CTC, LEFT, None)


def test_each_loss_pulls_with_its_weight():
    with tf.GradientTape() as tape:
        tape.watch([CTC, LEFT, RIGHT])
        losses = joint_loss(JointObjective(), CTC, LEFT, RIGHT)
    gradients = tape.gradient(losses, [CTC, LEFT, RIGHT])
    np.testing.assert_allclose(gradients, [[0.3] * 2, [0.49] * 2, [0.21] * 2], rtol=1e-6)


def test_targets_of_either_direction_end_with_the_end(noise):
    logits = tf.constant(noise(2, 4, 6)), tf.constant(noise(2, 4, 6, seed=1))
    tokens, num_tokens = tf.constant([[3, 1, 4], [2, 0, 9]]), tf.constant([3, 2])
    left, right = decoder_losses(logits, tokens, num_tokens, 0.1)
    lengths = tf.constant([4, 3])
    forward, backward = [[3, 1, 4, 5], [2, 0, 5, 0]], [[4, 1, 3, 5], [0, 2, 5, 0]]
    for losses, own, targets in ((left, logits[0], forward), (right, logits[1], backward)):
        expected = label_smoothed_loss(own, tf.constant(targets), lengths, 0.1)
        np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_no_right_logits_have_no_loss(noise):
    tokens, num_tokens = tf.constant([[3, 1, 4]]), tf.constant([3])
    left, right = decoder_losses((tf.constant(noise(1, 4, 6)), None), tokens, num_tokens, 0.1)
    assert left.shape == (1,)
    assert right is None


def slow_joint_loss(left, right, tokens):
    """Equation 16 without CTC, for one utterance in float64, targets written out."""
    classes, losses = left.shape[1], []
    for logits, read in ((left, tokens), (right, tokens[::-1])):
        q = np.full(logits.shape, 0.1 / (classes - 1))
        q[np.arange(len(logits)), [*read, classes - 1]] = 0.9
        losses.append(np.sum(q * (np.log(q) - log_softmax(logits, axis=1))))
    return 0.7 * (0.7 * losses[0] + 0.3 * losses[1])


def test_gradients_of_both_directions_are_those_of_central_differences(noise):
    tokens, logits = [3, 1, 1], [2 * noise(4, 5), 2 * noise(4, 5, seed=1)]
    with tf.GradientTape() as tape:
        tape.watch(watched := [tf.constant(each[None]) for each in logits])
        losses = decoder_losses(tuple(watched), tf.constant([tokens]), tf.constant([3]), 0.1)
        total = joint_loss(JointObjective(), tf.zeros([1]), *losses)
    gradients = tape.gradient(total, watched)
    for which in (0, 1):
        expected = np.zeros([4, 5])
        for place in np.ndindex(4, 5):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [each.astype(float) for each in logits]
                moved[which][place] += step
                ends.append(slow_joint_loss(*moved, tokens))
            expected[place] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(gradients[which][0], expected, atol=1e-5)
