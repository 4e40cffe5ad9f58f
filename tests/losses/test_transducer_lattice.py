from itertools import combinations, combinations_with_replacement

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp

from tfasr.losses.transducer_lattice import sum_alignments


def brute_force(blanks, labels, monotonic=False):
    """Log-probability of an utterance [T, U + 1], and shares, over alignments one by one."""
    frames, tokens = len(blanks), blanks.shape[1] - 1
    scores, taken = [], []
    choose = combinations if monotonic else combinations_with_replacement
    for of_tokens in choose(range(frames), tokens):
        blank, label = np.zeros_like(blanks), np.zeros_like(labels)
        for token, frame in enumerate(of_tokens):
            label[frame, token] = 1
        for frame in range(frames):
            if not (monotonic and frame in of_tokens):
                blank[frame, sum(of <= frame for of in of_tokens)] = 1
        scores.append((blank * blanks).sum() + (label * labels).sum())
        taken.append((blank, label))
    shares = np.exp(scores - logsumexp(scores))
    return logsumexp(scores), *(np.tensordot(shares, arcs, 1) for arcs in zip(*taken, strict=True))


def plain_sums(blanks, labels):
    """The same by the plain recursions in float64."""
    frames, places = blanks.shape
    before = np.full([frames + 1, places], -np.inf)
    after = np.full([frames + 1, places + 1], -np.inf)
    before[0, 0] = after[frames, places - 1] = 0
    for frame in range(frames + 1):
        for place in range(places):
            ways = [before[frame, place]]
            if frame:
                ways.append(before[frame - 1, place] + blanks[frame - 1, place])
            if place and frame < frames:
                ways.append(before[frame, place - 1] + labels[frame, place - 1])
            before[frame, place] = np.logaddexp.reduce(ways)
    for frame in reversed(range(frames)):
        for place in reversed(range(places)):
            after[frame, place] = np.logaddexp(
                after[frame + 1, place] + blanks[frame, place],
                after[frame, place + 1] + labels[frame, place],
            )
    total = after[0, 0]
    blank = np.exp(before[:-1] + blanks + after[1:, :-1] - total)
    label = np.exp(before[:-1] + labels + after[:-1, 1:] - total)
    return total, blank, label


def sums(blanks, labels, num_frames=None, num_tokens=None, monotonic=False):
    batch, frames, places = np.shape(blanks)
    return sum_alignments(
        tf.constant(blanks, tf.float32),
        tf.constant(labels, tf.float32),
        tf.constant([frames] * batch if num_frames is None else num_frames, tf.int32),
        tf.constant([places - 1] * batch if num_tokens is None else num_tokens, tf.int32),
        monotonic,
    )


def log_probabilities(noise, *shape):
    return -np.abs(noise(*shape)), -2 * np.abs(noise(*shape, seed=1))


def test_sum_and_shares_by_hand():
    # The token is emitted in the first frame, 1/2 * 3/4 * 3/4, or in the second, 1/2 * 1/4 * 3/4.
    blanks = np.log([[[0.5, 0.75], [0.5, 0.75]]])
    labels = np.log([[[0.5, 1.0], [0.25, 1.0]]])
    summed = sums(blanks, labels)
    np.testing.assert_allclose(summed.log_probability, np.log([9 / 32 + 3 / 32]), rtol=1e-6)
    np.testing.assert_allclose(summed.blanks, [[[0.25, 0.75], [0, 1]]], atol=1e-6)
    np.testing.assert_allclose(summed.labels, [[[0.75, 0], [0.25, 0]]], atol=1e-6)


@pytest.mark.parametrize(("frames", "tokens"), [(1, 0), (1, 1), (3, 0), (4, 3), (2, 5), (1, 4)])
def test_sum_and_shares_are_those_of_all_alignments(noise, frames, tokens):
    blanks, labels = log_probabilities(noise, 1, frames, tokens + 1)
    summed = sums(blanks, labels)
    total, blank, label = brute_force(blanks[0], labels[0])
    np.testing.assert_allclose(summed.log_probability, [total], rtol=1e-5)
    np.testing.assert_allclose(summed.blanks[0], blank, atol=1e-5)
    np.testing.assert_allclose(summed.labels[0], label, atol=1e-5)


@pytest.mark.parametrize(("frames", "tokens"), [(1, 0), (1, 1), (3, 0), (4, 3), (5, 2), (3, 3)])
def test_monotonic_sum_and_shares_are_those_of_all_alignments(noise, frames, tokens):
    blanks, labels = log_probabilities(noise, 1, frames, tokens + 1)
    summed = sums(blanks, labels, monotonic=True)
    total, blank, label = brute_force(blanks[0], labels[0], monotonic=True)
    np.testing.assert_allclose(summed.log_probability, [total], rtol=1e-5)
    np.testing.assert_allclose(summed.blanks[0], blank, atol=1e-5)
    np.testing.assert_allclose(summed.labels[0], label, atol=1e-5)


def test_monotonic_sum_by_hand():
    # The token is emitted in the first frame, 1/2 * 3/4, or in the second, 1/2 * 1/4.
    blanks = np.log([[[0.5, 0.75], [0.5, 0.75]]])
    labels = np.log([[[0.5, 1.0], [0.25, 1.0]]])
    summed = sums(blanks, labels, monotonic=True)
    np.testing.assert_allclose(summed.log_probability, np.log([3 / 8 + 1 / 8]), rtol=1e-6)
    np.testing.assert_allclose(summed.blanks, [[[0.25, 0], [0, 0.75]]], atol=1e-6)
    np.testing.assert_allclose(summed.labels, [[[0.75, 0], [0.25, 0]]], atol=1e-6)


def test_monotonic_utterances_of_a_batch_are_each_their_own(noise):
    blanks, labels = log_probabilities(noise, 4, 4, 4)
    num_frames, num_tokens = [4, 2, 3, 1], [3, 2, 0, 1]
    summed = sums(blanks, labels, num_frames, num_tokens, monotonic=True)
    for row, (frames, tokens) in enumerate(zip(num_frames, num_tokens, strict=True)):
        real = (row, slice(frames), slice(tokens + 1))
        total, blank, label = brute_force(blanks[real], labels[real], monotonic=True)
        np.testing.assert_allclose(summed.log_probability[row], total, rtol=1e-5)
        np.testing.assert_allclose(summed.blanks[real], blank, atol=1e-5)
        np.testing.assert_allclose(summed.labels[real], label, atol=1e-5)


def test_more_tokens_than_frames_have_no_monotonic_alignment(noise):
    blanks, labels = log_probabilities(noise, 1, 2, 4)
    summed = sums(blanks, labels, monotonic=True)
    assert summed.log_probability.numpy().tolist() == [0]
    assert not summed.blanks.numpy().any()
    assert not summed.labels.numpy().any()


def test_utterances_of_a_batch_are_each_their_own(noise):
    blanks, labels = log_probabilities(noise, 4, 4, 4)
    num_frames, num_tokens = [4, 2, 3, 1], [3, 3, 0, 1]
    summed = sums(blanks, labels, num_frames, num_tokens)
    for row, (frames, tokens) in enumerate(zip(num_frames, num_tokens, strict=True)):
        real = (row, slice(frames), slice(tokens + 1))
        total, blank, label = brute_force(blanks[real], labels[real])
        np.testing.assert_allclose(summed.log_probability[row], total, rtol=1e-5)
        np.testing.assert_allclose(summed.blanks[real], blank, atol=1e-5)
        np.testing.assert_allclose(summed.labels[real], label, atol=1e-5)


@pytest.mark.parametrize("padding", [0.0, 1e4, -np.inf, np.nan])
def test_whatever_stands_in_the_padding_changes_nothing_and_has_no_share(noise, padding):
    blanks, labels = log_probabilities(noise, 1, 3, 3)
    alone = sums(blanks, labels)
    wide = [np.full([1, 5, 6], padding, np.float32) for _ in range(2)]
    for padded, scores in zip(wide, (blanks, labels), strict=True):
        padded[:, :3, :3] = scores
    wide[1][:, :, 2] = padding
    summed = sums(*wide, [3], [2])
    np.testing.assert_allclose(summed.log_probability, alone.log_probability, rtol=1e-6)
    for padded, shares in ((summed.blanks, alone.blanks), (summed.labels, alone.labels)):
        expected = np.pad(shares, [[0, 0], [0, 2], [0, 3]])
        np.testing.assert_allclose(padded, expected, atol=1e-6)


def test_a_long_utterance_is_summed_as_in_float64(noise):
    blanks, labels = (4 * x - 3 for x in log_probabilities(noise, 1, 300, 61))
    summed = sums(blanks, labels)
    total, blank, label = plain_sums(blanks[0].astype(float), labels[0].astype(float))
    np.testing.assert_allclose(summed.log_probability, [total], rtol=1e-5)
    # Sums to about 2000 are rounded by 1e-4, which is then the error of a share.
    np.testing.assert_allclose(summed.blanks[0], blank, atol=2e-3)
    np.testing.assert_allclose(summed.labels[0], label, atol=2e-3)


def test_what_is_common_to_a_frame_or_a_token_costs_no_precision(noise):
    blanks, labels = (x / 8 for x in log_probabilities(noise, 1, 300, 61))
    shares = sums(blanks, labels)
    # As far down as an untrained model with a large vocabulary is.
    total, blank, label = plain_sums(blanks[0].astype(float) - 8, labels[0].astype(float) - 8)
    low = sums(blanks - 8, labels - 8)
    np.testing.assert_allclose(low.log_probability, [total], rtol=1e-6)
    np.testing.assert_allclose(low.blanks[0], blank, atol=1e-4)
    np.testing.assert_allclose(low.labels[0], label, atol=1e-4)
    np.testing.assert_allclose(low.blanks, shares.blanks, atol=1e-4)


def test_arcs_that_are_all_but_impossible_are_summed(noise):
    blanks, labels = (1e4 * x for x in log_probabilities(noise, 1, 3, 3))
    total, blank, _ = brute_force(blanks[0].astype(float), labels[0].astype(float))
    summed = sums(blanks, labels)
    np.testing.assert_allclose(summed.log_probability, [total], rtol=1e-5)
    np.testing.assert_allclose(summed.blanks[0], blank, atol=1e-5)


@pytest.mark.parametrize("frames", [0, 2])
@pytest.mark.parametrize("tokens", [0, 1])
def test_no_frames_have_no_alignment(noise, frames, tokens):
    summed = sums(*log_probabilities(noise, 2, frames, 3), [0, frames], [tokens, 2])
    assert summed.log_probability[0] == 0
    assert not np.any(summed.blanks[0])
    assert not np.any(summed.labels[0])


def test_a_graph_for_all_shapes_computes_the_same(noise):
    scores, lengths = tf.TensorSpec([None, None, None]), tf.TensorSpec([None], tf.int32)
    graph = tf.function(
        sum_alignments, input_signature=[scores, scores, lengths, lengths], autograph=False
    )
    arguments = [*log_probabilities(noise, 2, 4, 3), np.int32([4, 2]), np.int32([1, 2])]
    for ours, expected in zip(graph(*arguments), sums(*arguments), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
