"""Greedy transducer decoding of whole utterances or of chunks, batched and in the graph."""

from typing import NamedTuple

import tensorflow as tf

from tfasr.models.lstm import LstmState
from tfasr.models.transducer import JointNetwork, PredictionNetwork


class TransducerState(NamedTuple):
    """What a decoder remembers of the tokens so far.

    Args:
        predicted: [B, P] float, what the prediction network gave last.
        output: [B, P] float, of its LSTM's state.
        cell: [B, P] float, of its LSTM's state.
    """

    predicted: tf.Tensor
    output: tf.Tensor
    cell: tf.Tensor


class Emitted(NamedTuple):
    """The tokens that were read from the frames of one call.

    Args:
        tokens: [B, U] int32; 0 beyond `num_tokens`.
        frames: [B, U] int32, the frame of each token, from 0 in this call; -1 in the padding.
        num_tokens: [B] int32.
        scores: [B] float32, log-probability of the path: of the tokens and of the blanks.
        state: After the last frame, for the call with the next ones.
    """

    tokens: tf.Tensor
    frames: tf.Tensor
    num_tokens: tf.Tensor
    scores: tf.Tensor
    state: TransducerState


class _Reader(NamedTuple):
    """Where each utterance stands.

    Args:
        frame: [B] int32, the frame that is read.
        count: [B] int32, tokens emitted in it.
        scores: [B] float32, log-probability so far.
    """

    frame: tf.Tensor
    count: tf.Tensor
    scores: tf.Tensor


def first_state(prediction: PredictionNetwork, batch: tf.Tensor) -> TransducerState:
    """Gives the state before the first token, for `batch` (scalar int32) utterances."""
    predicted, state = prediction.start(batch)
    return TransducerState(predicted, *state)


def transducer_greedy(
    prediction: PredictionNetwork,
    joint: JointNetwork,
    encoded: tf.Tensor,
    num_frames: tf.Tensor,
    state: TransducerState | None = None,
    *,
    max_symbols: int = 4,
) -> Emitted:
    """Takes the most probable symbol, again and again, until the blank ends each frame.

    A token ends it too where the joint network is monotonic.

    An utterance that is read in chunks, each call given the state of the one before, has the
    tokens of the whole. Each utterance has a frame of its own in each turn, so that the turns
    are as many as the frames and tokens of one utterance, at most, not of all.

    Call it in a graph: eagerly, every operation of every turn is dispatched by itself. For
    `word_times`, a token's frame is the first and the last of its `Alignment`.

    Args:
        prediction: Reads the tokens.
        joint: Scores the next symbol; the blank is V.
        encoded: [B, T, D] float.
        num_frames: [B] int32, real frames.
        state: After the frames before; None where there are none.
        max_symbols: Tokens in one frame at most; the blank is taken then, whatever its
            probability, for some models would never say it. A frame of 40 ms seldom has two
            tokens, and 4 leave room for those that a model holds back.

    Returns:
        The tokens; U is the number of the longest.

    Raises:
        ValueError: `max_symbols` is less than 1.

    Source: Graves (2012), "Sequence Transduction with Recurrent Neural Networks", section 2.6,
        with a beam of one path.
    """
    if max_symbols < 1:
        raise ValueError(f"max_symbols must be at least 1; got max_symbols={max_symbols}")
    before = first_state(prediction, tf.shape(encoded)[0]) if state is None else state
    projected = joint.encoder_dense(encoded)  # [B, T, J]
    path, frames, scores, after = _take_turns(
        prediction, joint, projected, num_frames, before, max_symbols
    )
    num_tokens = tf.reduce_sum(tf.cast(path >= 0, tf.int32), 1)
    longest = tf.reduce_max(tf.pad(num_tokens, [[0, 1]]))
    # Tokens first, in their order. LiteRT has no ragged tensors.
    order = tf.argsort(tf.cast(path < 0, tf.int32), axis=1, stable=True)[:, :longest]
    inside = tf.sequence_mask(num_tokens, longest)
    tokens = tf.where(inside, tf.gather(path, order, batch_dims=1), 0)
    frames = tf.where(inside, tf.gather(frames, order, batch_dims=1), -1)
    return Emitted(tokens, frames, num_tokens, scores, after)


def _take_turns(
    prediction: PredictionNetwork,
    joint: JointNetwork,
    projected: tf.Tensor,
    num_frames: tf.Tensor,
    before: TransducerState,
    max_symbols: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, TransducerState]:
    """Reads all frames [B, T, J].

    Returns:
        For each turn the token, -1 for none, and the frame, both [B, turns] int32; the scores
        [B]; the state after them.
    """
    size, most = tf.shape(projected)[0], tf.shape(projected)[1]
    zeros = tf.zeros([size], tf.int32)
    # Entry 0 stands before the first turn: a stack of nothing would have no shape.
    turns = most * (max_symbols + 1) + 1
    symbols, frames = (
        tf.TensorArray(tf.int32, turns, element_shape=zeros.shape).write(0, entry)
        for entry in (zeros - 1, zeros)
    )

    def take(
        turn: tf.Tensor,
        reader: _Reader,
        state: TransducerState,
        symbols: tf.TensorArray,
        frames: tf.TensorArray,
    ) -> tuple[tf.Tensor, _Reader, TransducerState, tf.TensorArray, tf.TensorArray]:
        real = reader.frame < num_frames
        here = tf.gather(projected, tf.where(real, reader.frame, 0), batch_dims=1)  # [B, J]
        logits = joint.output_dense(tf.tanh(here + joint.prediction_dense(state.predicted)))
        after, symbol = _read(reader, logits, num_frames, max_symbols, joint.monotonic)
        symbols, frames = symbols.write(turn, symbol), frames.write(turn, reader.frame)
        return turn + 1, after, _remember(prediction, state, symbol), symbols, frames

    first = _Reader(zeros, zeros, tf.zeros([size]))
    taken, reader, after, symbols, frames = tf.while_loop(
        lambda turn, reader, *_: tf.reduce_any(reader.frame < num_frames),
        take,
        (tf.constant(1), first, before, symbols, frames),
    )
    path, frames = (tf.transpose(x.stack()[:taken]) for x in (symbols, frames))
    return path, frames, reader.scores, after


def _read(
    reader: _Reader, logits: tf.Tensor, num_frames: tf.Tensor, max_symbols: int, monotonic: bool
) -> tuple[_Reader, tf.Tensor]:
    """Takes a symbol of logits [B, V + 1]: where the utterances stand, and the tokens [B].

    The token is -1 where it is the blank and where there is no frame left.
    """
    scores = tf.nn.log_softmax(logits)
    blank = tf.shape(scores)[1] - 1
    best = tf.argmax(scores, 1, tf.int32)
    symbol = tf.where(reader.count == max_symbols, blank, best)
    real = reader.frame < num_frames
    emits = real & (symbol != blank)
    stays = emits & (not monotonic)
    gained = tf.where(real, tf.gather(scores, symbol, batch_dims=1), 0.0)
    after = _Reader(
        frame=reader.frame + tf.cast(real & ~stays, tf.int32),
        count=tf.where(stays, reader.count + 1, 0),
        scores=reader.scores + gained,
    )
    return after, tf.where(emits, symbol, -1)


def _remember(
    prediction: PredictionNetwork, state: TransducerState, symbol: tf.Tensor
) -> TransducerState:
    """Reads the tokens [B]; the state stays where there is none, -1."""
    emits = symbol >= 0

    def read() -> TransducerState:
        predicted, lstm = prediction.step(
            tf.maximum(symbol, 0), LstmState(state.output, state.cell)
        )
        after = TransducerState(predicted, *lstm)
        return TransducerState(
            *(tf.where(emits[:, None], new, old) for new, old in zip(after, state, strict=True))
        )

    return TransducerState(*tf.cond(tf.reduce_any(emits), read, lambda: state))
