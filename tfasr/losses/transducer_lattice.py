"""The sum over all alignments of tokens with frames."""

from functools import partial
from typing import NamedTuple

import tensorflow as tf

# Log-probability of what cannot be. Two infinities would have no difference.
_IMPOSSIBLE = -1e30


class Alignments(NamedTuple):
    """What all alignments of an utterance come to, and the share of them that takes each arc.

    Args:
        log_probability: [B] float32; 0 where there is no alignment.
        blanks: [B, T, U + 1] float32 in [0, 1]: of those that leave the frame after u tokens.
            Sums to 1 over the places of a real frame.
        labels: [B, T, U + 1] float32 in [0, 1]: of those that emit token u in the frame. Sums
            to 1 over the frames of a real token.
    """

    log_probability: tf.Tensor
    blanks: tf.Tensor
    labels: tf.Tensor


def sum_alignments(
    blanks: tf.Tensor,
    labels: tf.Tensor,
    num_frames: tf.Tensor,
    num_tokens: tf.Tensor,
    monotonic: bool = False,
) -> Alignments:
    """Sums the probabilities of all alignments, forwards and backwards at once.

    There is none without frames, and none of more tokens than frames where a token ends its
    frame.

    Args:
        blanks: [B, T, U + 1] float32, log-probability of the blank in a frame after u tokens;
            whatever stands in the padding.
        labels: [B, T, U + 1] float32, of token u; the last place is padding.
        num_frames: [B] int32.
        num_tokens: [B] int32.
        monotonic: Whether a token ends its frame, as the blank does.

    Returns:
        The sum and the shares.

    Source: Graves (2012), "Sequence Transduction with Recurrent Neural Networks", eq. 16-21;
        Tripathi et al. (2019), "Monotonic Recurrent Neural Network Transducer and Decoding
        Strategies", section 3.
    """
    _, frames, places = tf.unstack(tf.shape(blanks))
    possible = num_frames >= num_tokens if monotonic else num_frames > 0
    # A frame more, into which the last blank leads.
    in_frames = tf.sequence_mask(num_frames, frames + 1)[:, :, None] & possible[:, None, None]
    has_blank = in_frames & tf.sequence_mask(num_tokens + 1, places)[:, None]
    has_label = in_frames & tf.sequence_mask(num_tokens, places)[:, None]
    # Every alignment takes one blank of each frame, or else one symbol, and each token once, so
    # what is common to a frame or a token stays outside: sums of small numbers lose less to
    # rounding.
    blanks, of_frames = _centred(_with_end(blanks), has_blank, 2)
    labels = _with_end(labels)
    labels, of_tokens = _centred(labels - of_frames if monotonic else labels, has_label, 1)

    turned = partial(_turned, num_frames=num_frames, num_tokens=num_tokens)
    # What `roll` brings round is impossible: the end has no arcs, the last place no label.
    arrivals = tf.concat([tf.roll(blanks, 1, 1), turned(blanks)], 0)  # [2 B, T + 1, U + 1]
    ends = (int(monotonic), 1)
    moves = tf.concat([tf.roll(labels, ends, (1, 2)), turned(labels)], 0)
    sums = _frame_paths(arrivals, moves) if monotonic else _paths(arrivals, moves)
    before, after = tf.split(sums, 2)  # [B, T + 1, U + 1]
    after = turned(after)
    total = after[:, :1, :1]

    def shares(arcs: tf.Tensor, beyond: tf.Tensor, possible: tf.Tensor) -> tf.Tensor:
        share = tf.exp(before + arcs + beyond - total)
        return tf.where(possible, share, 0.0)[:, :-1]

    outside = tf.reduce_sum(of_frames, [1, 2]) + tf.reduce_sum(of_tokens, [1, 2])
    return Alignments(
        tf.where(possible, total[:, 0, 0] + outside, 0.0),
        shares(blanks, tf.roll(after, -1, 1), has_blank),
        shares(labels, tf.roll(after, [-end for end in ends], (1, 2)), has_label),
    )


def _turned(x: tf.Tensor, num_frames: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
    """Exchanges the start and the end of each utterance."""
    x = tf.reverse_sequence(x, num_frames + 1, seq_axis=1, batch_axis=0)
    return tf.reverse_sequence(x, num_tokens + 1, seq_axis=2, batch_axis=0)


def _with_end(x: tf.Tensor) -> tf.Tensor:
    """Makes [B, T + 1, U + 1] of [B, T, U + 1]."""
    return tf.pad(x, [[0, 0], [0, 1], [0, 0]])


def _centred(x: tf.Tensor, possible: tf.Tensor, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Subtracts the largest along an axis: what is left, and what was subtracted."""
    x = tf.where(possible, x, _IMPOSSIBLE)
    largest = tf.reduce_max(x, axis, keepdims=True)
    largest = tf.where(tf.reduce_any(possible, axis, keepdims=True), largest, 0.0)
    return tf.where(possible, x - largest, _IMPOSSIBLE), largest


def _paths(arrivals: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    """Sums all paths from the first frame and place to every other.

    Args:
        arrivals: [N, T, U], log-probability of the step to here from the frame before.
        moves: [N, T, U], of the step from the place before.

    Returns:
        [N, T, U] float32 log-probabilities.
    """
    sums = _sum_lines(_diagonals(arrivals), _diagonals(moves))
    return _undone(sums, tf.shape(arrivals)[1])


def _frame_paths(arrivals: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    """Does the same where `moves` are steps from the place before in the frame before."""
    sums = _sum_lines(tf.transpose(arrivals, [1, 0, 2]), tf.transpose(moves, [1, 0, 2]))
    return tf.transpose(sums, [1, 0, 2])


def _sum_lines(arrivals: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    """Sums paths line by line, [L, N, U], by steps from the line before.

    Args:
        arrivals: [L, N, U], of the step from the same place.
        moves: [L, N, U], of the step from the place before.
    """
    first = tf.one_hot(tf.zeros_like(arrivals[0, :, 0], tf.int32), tf.shape(arrivals)[2])
    first = tf.where(first > 0, 0.0, _IMPOSSIBLE)

    def sum_of_both(sums: tf.Tensor, step: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        arrival = sums + step[0]
        move = tf.pad(sums[:, :-1], [[0, 0], [1, 0]]) + step[1]
        larger = tf.maximum(arrival, move)
        return larger + tf.math.softplus(tf.minimum(arrival, move) - larger)

    others = tf.scan(sum_of_both, (arrivals[1:], moves[1:]), first)
    return tf.concat([first[None], others], 0)


def _diagonals(x: tf.Tensor) -> tf.Tensor:
    """Turns [N, T, U] into [T + U - 1, N, U]: element (t, u) goes to t + u."""
    num_rows, num_frames, num_places = tf.unstack(tf.shape(x))
    padding = [[0, 0], [0, 0], [0, num_places]]
    x = tf.pad(tf.transpose(x, [0, 2, 1]), padding, constant_values=_IMPOSSIBLE)
    # Read in lines that are shorter by one, each place starts one later than that before it.
    length = num_frames + num_places - 1
    x = tf.reshape(x, [num_rows, -1])[:, : num_places * length]
    return tf.transpose(tf.reshape(x, [num_rows, num_places, length]), [2, 0, 1])


def _undone(x: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
    """Turns [T + U - 1, N, U] back into [N, T, U]."""
    length, num_rows, num_places = tf.unstack(tf.shape(x))
    x = tf.reshape(tf.transpose(x, [1, 2, 0]), [num_rows, -1])
    x = tf.reshape(tf.pad(x, [[0, 0], [0, num_places]]), [num_rows, num_places, length + 1])
    return tf.transpose(x[:, :, :num_frames], [0, 2, 1])
