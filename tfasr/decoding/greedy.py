"""Greedy CTC decoding and detokenisation, in the graph."""

from collections.abc import Sequence

import tensorflow as tf


def greedy_tokens(logits: tf.Tensor, num_frames: tf.Tensor) -> tf.RaggedTensor:
    """Takes each frame's best token, merges repeats and drops blanks.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames.

    Returns:
        [B, None] int32, ragged.

    Source: Graves et al. (2006), section 3.2, "best path decoding".
    """
    best = tf.argmax(logits, -1, output_type=tf.int32)  # [B, T]
    before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
    blank = tf.shape(logits)[-1] - 1
    kept = (best != before) & (best != blank)
    kept &= tf.sequence_mask(num_frames, tf.shape(best)[1])
    return tf.ragged.boolean_mask(best, kept)


def detokenize(tokens: tf.RaggedTensor, pieces: Sequence[str]) -> tf.Tensor:
    """Joins SentencePiece pieces to text.

    Args:
        tokens: [B, None] int32.
        pieces: The V surfaces; "▁" stands for a space.

    Returns:
        [B] string, with single spaces and none at the ends.
    """
    surfaces = tf.ragged.map_flat_values(lambda ids: tf.gather(tf.constant(pieces), ids), tokens)
    text = tf.strings.reduce_join(surfaces, -1)
    text = tf.strings.regex_replace(text, "[▁ ]+", " ")
    return tf.strings.strip(text)
