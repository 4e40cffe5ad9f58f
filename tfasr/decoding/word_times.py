"""When each token and word of a transcript was said, by forced alignment."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfasr.decoding.ctc_lattice import (
    arrivals,
    before_first_frame,
    emissions,
    final_states,
    make_lattice,
)

SPACES = ("▁", " ")


class Alignment(NamedTuple):
    """The frames of each token on the most probable path.

    An utterance whose tokens no path fits, for it has too few frames, has -1 everywhere and the
    score -inf.

    Args:
        first: [B, U] int32, first frame of each token; -1 in the padding.
        last: [B, U] int32, last frame of each token; -1 in the padding.
        scores: [B] float32, log-probability of the path.
    """

    first: tf.Tensor
    last: tf.Tensor
    scores: tf.Tensor


class WordTimes(NamedTuple):
    """The words of each utterance and when they were said.

    Args:
        words: [B, None] string, ragged.
        start: [B, None] float32, ragged, seconds; -1 where the utterance has no alignment.
        end: [B, None] float32, ragged, seconds; -1 where the utterance has no alignment.
    """

    words: tf.RaggedTensor
    start: tf.RaggedTensor
    end: tf.RaggedTensor


def align(
    logits: tf.Tensor, num_frames: tf.Tensor, tokens: tf.Tensor, num_tokens: tf.Tensor
) -> Alignment:
    """Finds the most probable path that collapses to the tokens.

    Of equally probable paths it takes one, always the same. CTC models tend to name a token in
    few frames, often late: its frames are where the model says so, not where the sound is.
    Holds B T (2 U + 1) bytes of back-pointers. Call it in a graph.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames.
        tokens: [B, U] int32 in [0, V) inside their lengths.
        num_tokens: [B] int32.

    Returns:
        The frames of each token.
    """
    lattice = make_lattice(tokens[:, None], num_tokens[:, None], tf.shape(logits)[2] - 1)
    most = tf.shape(logits)[1]
    alpha = before_first_frame(lattice)  # [B, 1, S]
    # Entry 0 stands before the first frame: a stack of nothing has no shape.
    pointers = tf.TensorArray(tf.int8, most + 1, element_shape=(None, None))
    pointers = pointers.write(0, tf.zeros(tf.shape(alpha[:, 0]), tf.int8))

    def advance(
        frame: tf.Tensor, alpha: tf.Tensor, pointers: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        real = (frame < num_frames)[:, None]
        sources = arrivals(lattice, alpha)  # [3, B, 1, S]
        pointer = tf.where(real, tf.argmax(sources, 0, tf.int32)[:, 0], 0)
        after = tf.reduce_max(sources, 0) + emissions(lattice, logits[:, frame])
        alpha = tf.where(real[:, None], after, alpha)
        return frame + 1, alpha, pointers.write(frame + 1, tf.cast(pointer, tf.int8))

    _, alpha, pointers = tf.while_loop(
        lambda frame, *_: frame < most, advance, (tf.constant(0), alpha, pointers)
    )
    candidates = final_states(lattice)[:, 0]  # [B, 2]
    ends = tf.gather(alpha[:, 0], candidates, batch_dims=1)
    end = tf.gather(candidates, tf.argmax(ends, 1, tf.int32), batch_dims=1)  # [B]
    scores = tf.reduce_max(ends, 1)
    path = _trace_back(end, pointers.stack())  # [B, T + 1]
    known = tf.sequence_mask(num_tokens, tf.shape(tokens)[1]) & (scores > -float("inf"))[:, None]
    return Alignment(*_spans(path, num_frames, known), scores)


def _trace_back(end: tf.Tensor, pointers: tf.Tensor) -> tf.Tensor:
    """States [B, T + 1] before the first frame and in each one, from their ends [B]."""

    def back(after: tuple[tf.Tensor, tf.Tensor], pointer: tf.Tensor) -> tuple[tf.Tensor, ...]:
        here = after[0]
        step = tf.gather(pointer, here, batch_dims=1)
        return here - tf.cast(step, tf.int32), here

    _, path = tf.scan(back, pointers, (end, end), reverse=True)
    return tf.transpose(path)


def _spans(path: tf.Tensor, num_frames: tf.Tensor, known: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First and last frames [B, U] of the tokens in their states."""
    # Padded frames repeat the last state: they are sent behind all states instead.
    real = tf.sequence_mask(num_frames + 1, tf.shape(path)[1])
    path = tf.where(real, path, tf.int32.max)
    states = 2 * tf.range(tf.shape(known)[1])[None] + 1
    states = tf.tile(states, [tf.shape(known)[0], 1])  # [B, U]
    first = tf.searchsorted(path, states) - 1
    last = tf.searchsorted(path, states, side="right") - 2
    return tf.where(known, first, -1), tf.where(known, last, -1)


def word_times(
    alignment: Alignment,
    tokens: tf.RaggedTensor,
    pieces: Sequence[str],
    seconds_per_frame: float,
) -> WordTimes:
    """Joins tokens to the words of `greedy.detokenize`, with their times.

    A word begins at a piece that starts with "▁", and after one that ends with it.

    Args:
        alignment: Of `align`.
        tokens: [B, None] int32, those that were aligned.
        pieces: The V surfaces; "▁" stands for a space.
        seconds_per_frame: Of the logits: the features' shift times the subsampling, 0.04 for
            10 ms and 4.

    Returns:
        Words from the start of their first frame to the end of their last one.

    Raises:
        ValueError: `seconds_per_frame` is not positive.
    """
    if not seconds_per_frame > 0:
        raise ValueError(
            f"seconds_per_frame must be positive; got seconds_per_frame={seconds_per_frame}"
        )
    opens = tf.constant([piece.startswith(SPACES) for piece in pieces])
    closes = tf.constant([piece.endswith(SPACES) for piece in pieces])
    inside = tf.sequence_mask(tokens.row_lengths(), tf.shape(alignment.first)[1])
    first = tf.boolean_mask(alignment.first, inside)  # [tokens of all utterances]
    last = tf.boolean_mask(alignment.last, inside)
    flat, places = tokens.values, tf.ragged.range(tokens.row_lengths()).values
    begins = tf.gather(opens, flat) | tf.roll(tf.gather(closes, flat), 1, 0) | (places == 0)

    word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    surfaces = tf.RaggedTensor.from_value_rowids(tf.gather(tf.constant(pieces), flat), word)
    words = tf.strings.reduce_join(surfaces, -1)
    words = tf.strings.strip(tf.strings.regex_replace(words, "▁", " "))
    rows = tf.boolean_mask(tf.cast(tokens.value_rowids(), tf.int32), begins)
    start = tf.math.segment_min(first, word)
    end = tf.math.segment_max(last, word)
    # A space by itself is no word.
    spoken = words != ""
    rows, words, start, end = (tf.boolean_mask(x, spoken) for x in (rows, words, start, end))
    known = start >= 0

    def by_utterance(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_value_rowids(
            values, rows, nrows=tf.cast(tokens.nrows(), tf.int32)
        )

    def seconds(frames: tf.Tensor) -> tf.RaggedTensor:
        times = tf.cast(frames, tf.float32) * seconds_per_frame
        return by_utterance(tf.where(known, times, -1.0))

    return WordTimes(by_utterance(words), seconds(start), seconds(end + 1))
