"""The one way from waveforms to a model's input: training, clients and exports use it."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfasr.configs.features import FbankConfig
from tfasr.features.fbank import fbank, num_frames


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and standard deviation of each mel bin over the training frames.

    Args:
        mean: [F].
        deviation: [F], all positive.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class FeatureExtractor:
    """Filterbank features, normalised to zero mean and unit variance on the training frames.

    Args:
        fbank: The filterbank.
        statistics: Of each of its bins.

    Raises:
        ValueError: The statistics are of another number of bins, or a deviation is not
            positive.
    """

    fbank: FbankConfig
    statistics: FeatureStatistics

    def __post_init__(self) -> None:
        mean, deviation = self.statistics.mean, self.statistics.deviation
        if not len(mean) == len(deviation) == self.fbank.num_mels:
            raise ValueError(
                "the statistics must have as many bins as the filterbank; got "
                f"{len(mean)} means, {len(deviation)} deviations for "
                f"num_mels={self.fbank.num_mels}"
            )
        if not min(deviation) > 0:
            raise ValueError(f"every deviation must be positive; got {min(deviation)}")

    def __call__(self, waveforms: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes a batch's features.

        Args:
            waveforms: [B, T] float32 in [-1, 1].
            num_samples: [B] int32, real samples.

        Returns:
            [B, T', F] float32, zero on padded frames, and [B] int32 real frames. T' is at
            least 1, also where no waveform fills a window.
        """
        shortfall = tf.maximum(self.fbank.frame_length - tf.shape(waveforms)[1], 0)
        waveforms = tf.pad(waveforms, [[0, 0], [0, shortfall]])
        mean = np.array(self.statistics.mean, np.float32)
        scale = (1 / np.array(self.statistics.deviation)).astype(np.float32)
        features = (fbank(waveforms, self.fbank) - mean) * scale
        frames = num_frames(num_samples, self.fbank)
        real = tf.sequence_mask(frames, tf.shape(features)[1])[:, :, None]
        return tf.where(real, features, 0.0), frames
