"""Connectionist temporal classification."""

import tensorflow as tf


def required_frames(tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
    """Fewest frames that can hold the tokens: one each, and a blank between equal neighbours.

    Args:
        tokens: [B, U] int32.
        num_tokens: [B] int32.

    Returns:
        [B] int32.
    """
    inside = tf.sequence_mask(num_tokens - 1, tf.maximum(tf.shape(tokens)[1] - 1, 0))
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & inside
    return num_tokens + tf.reduce_sum(tf.cast(repeats, tf.int32), 1)


def ctc_loss(
    logits: tf.Tensor, num_frames: tf.Tensor, tokens: tf.Tensor, num_tokens: tf.Tensor
) -> tf.Tensor:
    """Computes the negative log-probability of the tokens.

    An utterance with too few frames for its tokens has no alignment: its loss and its gradient
    are 0. Without tokens the loss is that of the all-blank path.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames of the logits.
        tokens: [B, U] int32 in [0, V).
        num_tokens: [B] int32.

    Returns:
        [B] float32.

    Source: Graves et al. (2006), "Connectionist Temporal Classification", section 4.1.
    """
    # Sparse labels choose TensorFlow's kernel; dense ones its loop in the graph, which is
    # eight times slower.
    inside = tf.sequence_mask(num_tokens, tf.shape(tokens)[1])
    labels = tf.SparseTensor(
        indices=tf.where(inside),
        values=tf.boolean_mask(tokens, inside),
        dense_shape=tf.cast(tf.shape(tokens), tf.int64),
    )
    feasible = required_frames(tokens, num_tokens) <= num_frames
    # The kernel refuses an utterance of 0 frames; those without tokens lose nothing.
    losses = tf.compat.v1.nn.ctc_loss(
        labels,
        tf.cast(logits, tf.float32),
        tf.maximum(num_frames, 1),
        ignore_longer_outputs_than_inputs=True,
        time_major=False,
    )
    return tf.where(feasible & (num_frames > 0), losses, 0.0)
