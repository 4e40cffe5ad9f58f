"""Greedy CTC decoding and detokenisation, in the graph."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class GreedyPath(NamedTuple):
    """The best symbol of each frame, repeats merged and blanks dropped.

    Args:
        tokens: [B, None] int32, ragged.
        first: [B, None] int32, ragged, the first frame of each token.
        last: [B, None] int32, ragged, its last frame.
        scores: [B] float32, log-probability of the path.
        symbol: [B] int32, the last real frame's, for the frames after it; what was given where
            there is none.
    """

    tokens: tf.RaggedTensor
    first: tf.RaggedTensor
    last: tf.RaggedTensor
    scores: tf.Tensor
    symbol: tf.Tensor


def greedy_tokens(logits: tf.Tensor, num_frames: tf.Tensor) -> tf.RaggedTensor:
    """Takes each frame's best token, merges repeats and drops blanks.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames.

    Returns:
        [B, None] int32, ragged.

    Source: Graves et al. (2006), section 3.2, "best path decoding".
    """
    return greedy_path(logits, num_frames).tokens


def greedy_path(
    logits: tf.Tensor, num_frames: tf.Tensor, symbol: tf.Tensor | None = None
) -> GreedyPath:
    """Finds what `greedy_tokens` does, with frames and scores, of whole utterances or chunks.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames.
        symbol: [B] int32, best symbol of the frame before; -1, or None, for none.

    Returns:
        The path. Of an utterance in chunks, a token whose frames two chunks share is of the
        first one, and so are its frames.
    """
    symbol = tf.fill([tf.shape(logits)[0]], -1) if symbol is None else symbol
    tokens, best = greedy_frames(logits, num_frames, symbol)
    kept = tokens >= 0
    real = tf.sequence_mask(num_frames, tf.shape(best)[1])
    after = tf.pad(best, [[0, 0], [0, 1]], constant_values=-1)[:, 1:]
    ends = real & (best != tf.shape(logits)[-1] - 1) & (best != after)
    carried = tf.math.cumprod(tf.cast(best == symbol[:, None], tf.int32), 1) > 0
    frames = tf.zeros_like(best) + tf.range(tf.shape(best)[1])
    scores = tf.reduce_max(tf.nn.log_softmax(tf.cast(logits, tf.float32)), -1)
    return GreedyPath(
        tf.ragged.boolean_mask(best, kept),
        tf.ragged.boolean_mask(frames, kept),
        tf.ragged.boolean_mask(frames, ends & ~carried),
        tf.reduce_sum(tf.where(real, scores, 0.0), 1),
        last_symbol(best, num_frames, symbol),
    )


def greedy_frames(
    logits: tf.Tensor, num_frames: tf.Tensor, symbol: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds what each frame adds, by operations that LiteRT has too.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames.
        symbol: [B] int32, best symbol of the frame before; -1 for none.

    Returns:
        [B, T] int32 each: the token that begins in a frame, -1 for none; and the best symbol, -1
        in the padding.
    """
    best = tf.argmax(logits, -1, output_type=tf.int32)
    best = tf.where(tf.sequence_mask(num_frames, tf.shape(best)[1]), best, -1)
    before = tf.concat([symbol[:, None], best], 1)[:, :-1]
    blank = tf.shape(logits)[-1] - 1
    return tf.where((best != before) & (best != blank), best, -1), best


def last_symbol(best: tf.Tensor, num_frames: tf.Tensor, symbol: tf.Tensor) -> tf.Tensor:
    """The best symbol [B] of the last real frame of [B, T]; `symbol` [B] where there is none."""
    return tf.gather(tf.concat([symbol[:, None], best], 1), num_frames, batch_dims=1)


def detokenize(tokens: tf.RaggedTensor, pieces: Sequence[str]) -> tf.Tensor:
    """Joins SentencePiece pieces to text.

    Args:
        tokens: [B, None] int32.
        pieces: The V surfaces; "▁" stands for a space.

    Returns:
        [B] string, with single spaces and none at the ends.
    """
    return spaced(join_pieces(tokens, pieces))


def join_pieces(tokens: tf.RaggedTensor, pieces: Sequence[str]) -> tf.Tensor:
    """Joins the surfaces [B] string of tokens [B, None], with "▁" as it stands in them."""
    surfaces = tf.ragged.map_flat_values(lambda ids: tf.gather(tf.constant(pieces), ids), tokens)
    return tf.strings.reduce_join(surfaces, -1)


def spaced(joined: tf.Tensor) -> tf.Tensor:
    """Turns each "▁" [B] string into a space, with single ones and none at the ends."""
    return tf.strings.strip(tf.strings.regex_replace(joined, "[▁ ]+", " "))
