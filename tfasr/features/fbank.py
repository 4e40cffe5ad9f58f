"""Kaldi's log-mel filterbank in stock TensorFlow operations."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.features import FbankConfig

# Kaldi works on 16-bit sample values.
INT16_SCALE = 32768.0
# Kaldi's energy floor: float32's epsilon.
_FLOOR = 1.1920929e-7


def num_frames(num_samples: tf.Tensor, config: FbankConfig) -> tf.Tensor:
    """Whole frames in a waveform; none where it is shorter than a window."""
    frames = 1 + (num_samples - config.frame_length) // config.frame_shift
    return tf.maximum(frames, 0)


def mel_weights(config: FbankConfig) -> NDArray[np.float32]:
    """Triangles linear in mel.

    Returns:
        [N / 2 + 1, F] float32 for an N-point transform; the last row, of half the sample
        rate, is zero.

    Source: Kaldi, `feat/mel-computations.cc`: mel = 1127 ln(1 + f / 700).
    """
    size = _fft_size(config)
    low, high = _mel(np.array([config.low_hz, config.sample_rate / 2]))
    edges = np.linspace(low, high, config.num_mels + 2)
    mel = _mel(np.arange(size // 2) * config.sample_rate / size)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    triangles = np.maximum(np.minimum(rising, falling), 0)
    return np.asarray(np.pad(triangles, [(0, 1), (0, 0)]), np.float32)


def fbank(waveforms: tf.Tensor, config: FbankConfig) -> tf.Tensor:
    """Computes log-mel features, without dither.

    Each frame is a function of its own samples, so padding behind an utterance changes none
    of its frames.

    Args:
        waveforms: [B, T] float32 in [-1, 1].
        config: The filterbank.

    Returns:
        [B, 1 + (T - window) // hop, F] float32.

    Source: Kaldi, `feat/feature-window.cc` and `feature-fbank.cc`, with snip_edges.
    """
    frames = tf.signal.frame(waveforms * INT16_SCALE, config.frame_length, config.frame_shift)
    frames -= tf.reduce_mean(frames, -1, keepdims=True)
    before = tf.concat([frames[..., :1], frames[..., :-1]], -1)
    frames = (frames - config.preemphasis * before) * _povey_window(config.frame_length)
    # TensorFlow's float32 transform is off by more than Kaldi's where a loud tone leaks.
    spectrum = tf.signal.rfft(tf.cast(frames, tf.float64), [_fft_size(config)])
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    energy = tf.matmul(tf.cast(power, tf.float32), mel_weights(config))
    return tf.math.log(tf.maximum(energy, _FLOOR))


def _fft_size(config: FbankConfig) -> int:
    return 1 << (config.frame_length - 1).bit_length()


def _povey_window(length: int) -> NDArray[np.float32]:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    return np.asarray(hann**0.85, np.float32)


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
