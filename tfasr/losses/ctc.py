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
    # The kernel refuses utterances without tokens or frames: they are given one of each, and
    # their losses are put in afterwards.
    tokens = tf.pad(tokens, [[0, 0], [0, 1]])
    inside = tf.sequence_mask(tf.maximum(num_tokens, 1), tf.shape(tokens)[1])
    labels = tf.SparseTensor(
        indices=tf.where(inside),
        values=tf.boolean_mask(tokens, inside),
        dense_shape=tf.cast(tf.shape(tokens), tf.int64),
    )
    feasible = required_frames(tokens, num_tokens) <= num_frames
    logits = tf.cast(logits, tf.float32)
    losses = tf.compat.v1.nn.ctc_loss(
        labels,
        logits,
        tf.maximum(num_frames, 1),
        ignore_longer_outputs_than_inputs=True,
        time_major=False,
    )
    losses = tf.where(num_tokens > 0, losses, _all_blank_loss(logits, num_frames))
    return tf.where(feasible, losses, 0.0)


def _all_blank_loss(logits: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
    by_frame = tf.reduce_logsumexp(logits, -1) - logits[..., -1]  # [B, T]
    real = tf.sequence_mask(num_frames, tf.shape(logits)[1])
    return tf.reduce_sum(tf.where(real, by_frame, 0.0), 1)
