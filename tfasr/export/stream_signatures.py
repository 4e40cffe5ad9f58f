"""Signatures that hear a stream, window by window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfasr.decoding.greedy import greedy_frames, join_pieces, last_symbol, spaced
from tfasr.decoding.transducer_greedy import (
    Emitted,
    TransducerState,
    first_state,
    transducer_greedy,
)
from tfasr.features.extractor import FeatureExtractor
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.streaming import State, StreamingEncoder

_SYMBOL, _PIECES = "decoder_symbol", "decoder_pieces"


@dataclass(frozen=True)
class StreamWindow:
    """The audio of one step.

    Args:
        samples: In its window.
        shift: From one window's first sample to the next one's: windows overlap.
    """

    samples: int
    shift: int


class StreamSignatures:
    """Makes the signatures of a model that streams.

    stream_start: "streams" [] int32, how many, to the state of so many before their first step:
        zeros, and no text.
    stream_step: "waveforms" [B, S] float32, a window of each stream, "num_samples" [B] int32,
        its real samples (all S until a stream ends, then what is left, 0 when there is none),
        and the state; to "text" [B] string, what was said since the stream's start, "tokens"
        [B, U] int32 of this window, -1 in the padding, and the next state by the same names.

    Text is that of the best symbols, whatever decoder whole utterances have.

    Args:
        model: Streams.
        extractor: Its features.
        pieces: Surfaces of its tokens.
        chunk: Frames of 40 ms that a step hears together.

    Raises:
        ValueError: The model can't hear such chunks.
    """

    def __init__(
        self, model: AcousticModel, extractor: FeatureExtractor, pieces: Sequence[str], chunk: int
    ) -> None:
        self.model = model
        self.extractor = extractor
        self.pieces = pieces
        self.encoder = StreamingEncoder(model, chunk)
        fbank = extractor.fbank
        shift = self.encoder.num_features * fbank.frame_shift
        self.window = StreamWindow(shift - fbank.frame_shift + fbank.frame_length, shift)

    def functions(self) -> dict[str, Any]:
        """Returns the untraced functions by the names of their signatures."""
        window, spec = self.window.samples, self._state_spec()

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "streams")], autograph=False)
        def stream_start(streams: tf.Tensor) -> State:
            return self._start(streams)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, window], tf.float32, "waveforms"),
                tf.TensorSpec([None], tf.int32, "num_samples"),
                spec,
            ],
            autograph=False,
        )
        def step(waveforms: tf.Tensor, num_samples: tf.Tensor, state: State) -> State:
            return self._step(waveforms, num_samples, state)

        return {"stream_start": stream_start, "stream_step": step}

    def _state_spec(self) -> dict[str, tf.TensorSpec]:
        with tf.Graph().as_default():
            started = self._start(tf.constant(1))
        return {
            name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name)
            for name, tensor in started.items()
        }

    def _start(self, streams: tf.Tensor) -> State:
        return {**self.start(streams), _PIECES: tf.fill([streams], "")}

    def _step(self, waveforms: tf.Tensor, num_samples: tf.Tensor, state: State) -> State:
        own = {name: tensor for name, tensor in state.items() if name != _PIECES}
        padded, after = self.step(waveforms, num_samples, own)
        tokens = tf.ragged.boolean_mask(padded, padded >= 0)
        pieces = tf.strings.join([state[_PIECES], join_pieces(tokens, self.pieces)])
        said = {"text": spaced(pieces), "tokens": tokens.to_tensor(-1)}
        return {**said, **after, _PIECES: pieces}

    def start(self, streams: tf.Tensor) -> State:
        """Returns the state of so many streams before their first step: zeros."""
        state = self.encoder.start(streams)
        if self.model.prediction is None:
            return {**state, _SYMBOL: tf.zeros([streams], tf.int32)}
        nothing = tf.zeros([streams, self.model.prediction.lstm.units])
        return state | {f"decoder_{name}": nothing for name in TransducerState._fields}

    def step(
        self, waveforms: tf.Tensor, num_samples: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, State]:
        """Hears a window of each stream, by operations that LiteRT has too.

        Args:
            waveforms: [B, S] float32.
            num_samples: [B] int32.
            state: As `start` or the last step gave it.

        Returns:
            [B, N] int32 tokens, -1 standing for none anywhere among them; and the next state.
        """
        features, num_frames = self.extractor(waveforms, num_samples)
        features.set_shape([None, self.encoder.num_features, None])
        own = {n: tensor for n, tensor in state.items() if not n.startswith("decoder_")}
        encoded, num_encoded, after = self.encoder.step(features, num_frames, own)
        begins = state["heard"] == 0
        if self.model.prediction is None:
            symbol = tf.where(begins, -1, state[_SYMBOL])
            tokens, best = greedy_frames(self.model.head(encoded), num_encoded, symbol)
            return tokens, {**after, _SYMBOL: last_symbol(best, num_encoded, symbol)}
        tokens, decoder = self._read_on(encoded, num_encoded, state, begins)
        return tokens, {**after, **decoder}

    def _read_on(
        self, encoded: tf.Tensor, num_encoded: tf.Tensor, state: State, begins: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        """Reads frames by the transducer, which has read nothing yet where a stream begins."""
        model = self.model
        first = first_state(model.prediction, tf.shape(encoded)[0])._asdict()
        before = TransducerState(
            **{n: tf.where(begins[:, None], x, state[f"decoder_{n}"]) for n, x in first.items()}
        )
        found = transducer_greedy(model.prediction, model.joint, encoded, num_encoded, before)
        tokens = emitted_tokens(found)
        return tokens, {f"decoder_{n}": x for n, x in found.state._asdict().items()}


def emitted_tokens(found: Emitted) -> tf.Tensor:
    """The tokens [B, U] of a transducer's path, -1 in the padding."""
    inside = tf.sequence_mask(found.num_tokens, tf.shape(found.tokens)[1])
    return tf.where(inside, found.tokens, -1)
