"""Features of audio that comes in pieces."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.features.extractor import FeatureExtractor
from tfasr.features.fbank import INT16_SCALE


class StreamingFeatures:
    """Gives the frames of a waveform as soon as their samples are there.

    All frames together are those that the extractor gives of the whole waveform, however it is
    cut. What a stream remembers are the samples that frames to come will need, fewer than a
    window.

    Args:
        extractor: The features.

    Raises:
        ValueError: Its windows leave samples out between them.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        fbank = extractor.fbank
        if fbank.frame_shift > fbank.frame_length:
            raise ValueError(
                "a stream needs a frame_shift of at most the frame_length; "
                f"got frame_shift={fbank.frame_shift}, frame_length={fbank.frame_length} samples"
            )
        self.fbank = fbank
        # One graph for all lengths, in which the transform's matrices are made once.
        self._extract = tf.function(
            extractor.__call__,
            input_signature=[
                tf.TensorSpec([1, None], tf.float32),
                tf.TensorSpec([1], tf.int32),
            ],
            autograph=False,
        )

    def start(self) -> NDArray[np.float32]:
        """Returns the state before the first piece: no samples."""
        return np.zeros(0, np.float32)

    def step(
        self, samples: NDArray[Any], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Takes the next piece.

        Args:
            samples: [N], int16, or float in [-1, 1]; any number, also none.
            state: As `start` or the last step gave it.

        Returns:
            [T, F] float32 frames that are whole now, and the state after the piece.

        Raises:
            ValueError: The samples are not one channel, or neither int16 nor float.
        """
        waveform = np.concatenate([state, _scaled(np.asarray(samples))])
        if len(waveform) < self.fbank.frame_length:
            return np.zeros([0, self.fbank.num_mels], np.float32), waveform
        features, _ = self._extract(waveform[None], np.array([len(waveform)], np.int32))
        used = features.shape[1] * self.fbank.frame_shift
        # A copy, lest a view keep the whole piece.
        return features[0].numpy(), waveform[used:].copy()


def _scaled(samples: NDArray[Any]) -> NDArray[np.float32]:
    if samples.ndim != 1:
        raise ValueError(f"samples must be of one channel, [N]; got shape {samples.shape}")
    if samples.dtype == np.int16:
        return (samples / INT16_SCALE).astype(np.float32)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be int16 or float; got {samples.dtype}")
    return samples.astype(np.float32)
