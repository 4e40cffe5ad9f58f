"""The states that CTC goes through for given tokens, and their summed probability."""

from typing import NamedTuple

import tensorflow as tf

NEVER = -float("inf")


class Lattice(NamedTuple):
    """A blank, a token, a blank, ... a blank: S = 2 U + 1 states for each sequence.

    Args:
        labels: [B, N, S] int32, what each state emits; the blank beyond the sequence.
        skips: [B, N, S] bool, True where the blank before a state may be left out.
        num_tokens: [B, N] int32.
    """

    labels: tf.Tensor
    skips: tf.Tensor
    num_tokens: tf.Tensor


def make_lattice(tokens: tf.Tensor, num_tokens: tf.Tensor, blank: tf.Tensor) -> Lattice:
    """Lays out the states of token sequences.

    Args:
        tokens: [B, N, U] int32; whatever stands in the padding.
        num_tokens: [B, N] int32.
        blank: Scalar int32, V.

    Returns:
        The lattice.
    """
    inside = tf.sequence_mask(num_tokens, tf.shape(tokens)[2])
    tokens = tf.where(inside, tokens, blank)
    pairs = tf.stack([tf.zeros_like(tokens) + blank, tokens], 3)  # [B, N, U, 2]
    shape = tf.shape(tokens)
    labels = tf.reshape(pairs, [shape[0], shape[1], 2 * shape[2]])
    labels = tf.pad(labels, [[0, 0], [0, 0], [0, 1]], constant_values=blank)
    skips = (labels != blank) & (labels != _delayed(labels, 2, blank))
    return Lattice(labels, skips, num_tokens)


def before_first_frame(lattice: Lattice) -> tf.Tensor:
    """Gives the states' log-probabilities [B, N, S] before any frame: the first has all."""
    at_start = tf.range(tf.shape(lattice.labels)[2]) == 0
    return tf.where(at_start, 0.0, tf.zeros(tf.shape(lattice.labels)) + NEVER)


def arrivals(lattice: Lattice, alpha: tf.Tensor) -> tf.Tensor:
    """Log-probabilities [3, B, N, S] of coming from 0, 1 and 2 states before, from [B, N, S]."""
    skipped = tf.where(lattice.skips, _delayed(alpha, 2, NEVER), NEVER)
    return tf.stack([alpha, _delayed(alpha, 1, NEVER), skipped])


def emissions(lattice: Lattice, logits: tf.Tensor) -> tf.Tensor:
    """Log-probabilities [B, N, S] of the states' labels in one frame's logits [B, V + 1]."""
    scores = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return tf.gather(scores, lattice.labels, batch_dims=1)


def final_states(lattice: Lattice) -> tf.Tensor:
    """The two states [B, N, 2] in which a sequence may end: the last blank and the last token.

    They are the same one where there are no tokens.
    """
    blank = 2 * lattice.num_tokens
    return tf.stack([blank, tf.maximum(blank - 1, 0)], 2)


def ctc_score(
    logits: tf.Tensor, num_frames: tf.Tensor, tokens: tf.Tensor, num_tokens: tf.Tensor
) -> tf.Tensor:
    """Computes the log-probability of given token sequences, several for each utterance.

    The N sequences share the logits, which `tf.nn.ctc_loss` would want N times. Three arrays of
    4 B N (2 U + 1) bytes are held at a time. Call it in a graph.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames.
        tokens: [B, N, U] int32 in [0, V) inside their lengths.
        num_tokens: [B, N] int32; 0 is the all-blank path.

    Returns:
        [B, N] float32; -inf where the frames are too few for the tokens.

    Source: Graves et al. (2006), section 4.1, the forward variable.
    """
    lattice = make_lattice(tokens, num_tokens, tf.shape(logits)[2] - 1)

    def advance(frame: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        after = tf.reduce_logsumexp(arrivals(lattice, alpha), 0)
        after += emissions(lattice, logits[:, frame])
        return frame + 1, tf.where((frame < num_frames)[:, None, None], after, alpha)

    _, alpha = tf.while_loop(
        lambda frame, _: frame < tf.shape(logits)[1],
        advance,
        (tf.constant(0), before_first_frame(lattice)),
    )
    ends = tf.gather(alpha, final_states(lattice), batch_dims=2)  # [B, N, 2]
    return tf.where(num_tokens > 0, tf.reduce_logsumexp(ends, 2), ends[..., 0])


def _delayed(x: tf.Tensor, places: int, fill: tf.Tensor | float) -> tf.Tensor:
    """Moves a [B, N, S] tensor to later states; `fill` comes in from before the first."""
    padded = tf.pad(x, [[0, 0], [0, 0], [places, 0]], constant_values=fill)
    return padded[..., : tf.shape(x)[2]]
