"""A stream that is heard chunk by chunk, and what comes of each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.decoding.transducer_greedy import first_state, transducer_greedy
from tfasr.features.extractor import FeatureExtractor
from tfasr.features.streaming import StreamingFeatures
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.streaming import State, StreamingEncoder


@dataclass(frozen=True)
class Heard:
    """What a chunk gives.

    Args:
        encoded: [C', D] float32, real frames only.
        log_probs: [C', V + 1] float32, of CTC; [C', 0] of a model without its head.
        tokens: Those emitted in it, greedily: by the transducer, or by CTC where there is none.
    """

    encoded: NDArray[np.float32]
    log_probs: NDArray[np.float32]
    tokens: list[int]


class Listener:
    """Hears one stream at a time.

    Args:
        model: A model that streams.
        extractor: Its features.
        chunk: Frames of a chunk, of 40 ms each.
    """

    def __init__(self, model: AcousticModel, extractor: FeatureExtractor, chunk: int) -> None:
        self.model = model
        self.fbank = extractor.fbank
        self.encoder = StreamingEncoder(model, chunk)
        self._features = StreamingFeatures(extractor)
        self._step = tf.function(self._outputs, autograph=False)
        self.restart()

    def restart(self) -> None:
        """Forgets the stream."""
        self._samples = self._features.start()
        self._frames = np.zeros([0, self.fbank.num_mels], np.float32)
        self._state = self.encoder.start(1)
        # The last frame's best symbol, or what the transducer remembers.
        self._spoken: Any = tf.constant([-1])
        if self.model.prediction is not None:
            self._spoken = first_state(self.model.prediction, 1)

    def arrivals(self, num_samples: int) -> list[int]:
        """Counts the samples that each whole chunk waits for, of so many in all."""
        step = self.encoder.num_features * self.fbank.frame_shift
        first = step - self.fbank.frame_shift + self.fbank.frame_length
        return list(range(first, num_samples + 1, step))

    def hear(self, samples: NDArray[Any]) -> list[Heard]:
        """Takes the next samples, any number of them; gives the chunks that are whole now."""
        frames, self._samples = self._features.step(samples, self._samples)
        self._frames = np.concatenate([self._frames, frames])
        size = self.encoder.num_features
        return [self._take(size) for _ in range(len(self._frames) // size)]

    def finish(self) -> list[Heard]:
        """Ends the stream; gives the chunk that was left of it, if any."""
        return [self._take(len(self._frames))] if len(self._frames) else []

    def _take(self, num_frames: int) -> Heard:
        chunk = np.zeros([1, self.encoder.num_features, self.fbank.num_mels], np.float32)
        chunk[0, :num_frames] = self._frames[:num_frames]
        # A copy, lest a view keep the whole piece.
        self._frames = self._frames[num_frames:].copy()
        outputs = self._step(
            tf.constant(chunk), tf.constant([num_frames]), self._state, self._spoken
        )
        encoded, log_probs, count, tokens, self._state, self._spoken = outputs
        # Arrays, for a tensor that is sliced is another tensor.
        real = count.numpy()[0]
        encoded, log_probs = (x.numpy()[0, :real] for x in (encoded, log_probs))
        return Heard(encoded, log_probs, tokens.numpy().tolist())

    def _outputs(
        self, features: tf.Tensor, num_frames: tf.Tensor, state: State, spoken: Any
    ) -> tuple[Any, ...]:
        encoded, count, state = self.encoder.step(features, num_frames, state)
        log_probs = encoded[..., :0]
        if self.model.head is not None:
            log_probs = tf.nn.log_softmax(self.model.head(encoded))
        if self.model.prediction is None:
            tokens, spoken = _ctc_greedy(log_probs, count, spoken)
        else:
            found = transducer_greedy(
                self.model.prediction, self.model.joint, encoded, count, spoken
            )
            tokens, spoken = found.tokens[0], found.state
        return encoded, log_probs, count, tokens, state, spoken


def _ctc_greedy(
    log_probs: tf.Tensor, count: tf.Tensor, last: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The new tokens of one stream, and the best symbol of its last frame, [1]."""
    best = tf.argmax(log_probs, -1, output_type=tf.int32)  # [1, C']
    before = tf.concat([last[:, None], best[:, :-1]], 1)
    kept = (best != before) & (best != tf.shape(log_probs)[2] - 1)
    kept &= tf.sequence_mask(count, tf.shape(best)[1])
    return tf.boolean_mask(best, kept), best[:, -1]
