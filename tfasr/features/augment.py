"""Changes to training waveforms, each drawn from a seed of its own."""

import math

import numpy as np
import tensorflow as tf

from tfasr.configs.features import AugmentConfig
from tfasr.features.fbank import INT16_SCALE

# Knots of the random channel response, evenly spaced from 0 Hz to half the sample rate.
_CHANNEL_KNOTS = 9
# The interpolation filter's length, and its phases between two samples.
_TAPS = 32
_PHASES = 512


def augment(waveform: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Applies speed, channel, gain, noise and dither, in this order.

    Args:
        waveform: [T] float32 in [-1, 1].
        seed: [2] int32.
        config: What may be drawn.

    Returns:
        [T / speed] float32; not clipped.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 7), num=7)
    if config.speed != (1.0, 1.0):
        waveform = change_speed(waveform, _uniform(seeds[0], config.speed))
    if config.tilt_db:
        waveform = change_channel(waveform, seeds[1], config.tilt_db)
    if config.gain_db != (0.0, 0.0):
        waveform *= _from_decibels(_uniform(seeds[2], config.gain_db))
    if config.noise_share:
        clean = waveform
        waveform = tf.cond(
            _uniform(seeds[5], (0.0, 1.0)) < config.noise_share,
            lambda: add_noise(clean, seeds[3], _uniform(seeds[4], config.noise_snr_db)),
            lambda: clean,
        )
    if config.dither:
        white = tf.random.stateless_normal(tf.shape(waveform), seeds[6], alg="philox")
        waveform += white * (config.dither / INT16_SCALE)
    return waveform


def change_speed(waveform: tf.Tensor, speed: tf.Tensor) -> tf.Tensor:
    """Plays a waveform faster or slower; the pitch follows.

    Each sample is read between the old ones by a windowed sinc. A Fourier transform would
    need lengths for which TensorFlow's takes thirty times as long.

    Args:
        waveform: [T] float32.
        speed: Scalar float32, 1 for no change.

    Returns:
        [round(T / speed)] float32.

    Source: Smith & Gossett (1984), "A flexible sampling-rate conversion method".
    """
    samples = tf.cast(tf.round(tf.cast(tf.size(waveform), tf.float32) / speed), tf.int32)
    place = tf.cast(tf.range(samples), tf.float64) * tf.cast(speed, tf.float64)
    left = tf.floor(place)
    phase = tf.cast(tf.round((place - left) * _PHASES), tf.int32)
    padded = tf.pad(waveform, [[_TAPS // 2 - 1, _TAPS // 2 + 1]])
    windows = tf.signal.frame(padded, _TAPS, 1)  # [T + 1, taps]
    left = tf.minimum(tf.cast(left, tf.int32), tf.size(waveform))
    taps = _interpolation_table(tf.minimum(1.0, 1 / speed))
    return tf.reduce_sum(tf.gather(windows, left) * tf.gather(taps, phase), -1)


def _interpolation_table(pass_band: tf.Tensor) -> tf.Tensor:
    """[phases + 1, taps]: a Hann-windowed sinc around each phase between two samples.

    `pass_band` is a share of half the sample rate.
    """
    phase = np.arange(_PHASES + 1)[:, None] / _PHASES
    distance = np.arange(_TAPS) - (_TAPS // 2 - 1) - phase
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / (_TAPS // 2), -1, 1))
    angle = tf.constant(np.pi * distance, tf.float32) * pass_band
    taps = tf.math.divide_no_nan(tf.sin(angle), angle) + tf.cast(angle == 0, tf.float32)
    taps *= tf.constant(window, tf.float32)
    return taps / tf.reduce_sum(taps, 1, keepdims=True)


def change_channel(waveform: tf.Tensor, seed: tf.Tensor, tilt_db: float) -> tf.Tensor:
    """Filters a waveform by a random smooth response, as another microphone would.

    Args:
        waveform: [T] float32.
        seed: [2] int32.
        tilt_db: Largest gain or loss at a knot of the response, in dB.

    Returns:
        [T] float32.
    """
    knots = tf.random.stateless_uniform([_CHANNEL_KNOTS], seed, -tilt_db, tilt_db)
    size = _power_of_two(tf.size(waveform))
    place = tf.linspace(0.0, _CHANNEL_KNOTS - 1.0, size // 2 + 1)
    left = tf.minimum(tf.cast(place, tf.int32), _CHANNEL_KNOTS - 2)
    share = place - tf.cast(left, tf.float32)
    gain_db = tf.gather(knots, left) * (1 - share) + tf.gather(knots, left + 1) * share
    gain = tf.cast(_from_decibels(gain_db), tf.complex64)
    return tf.signal.irfft(tf.signal.rfft(waveform, [size]) * gain, [size])[: tf.size(waveform)]


def add_noise(waveform: tf.Tensor, seed: tf.Tensor, snr_db: tf.Tensor) -> tf.Tensor:
    """Adds noise between white and brown at a signal-to-noise ratio.

    Args:
        waveform: [T] float32.
        seed: [2] int32.
        snr_db: Scalar float32, in dB.

    Returns:
        [T] float32.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2), num=2)
    size = _power_of_two(tf.size(waveform))
    white = tf.signal.rfft(tf.random.stateless_normal([size], seeds[0], alg="philox"))
    slope = _uniform(seeds[1], (0.0, 1.0))
    shape = (1.0 + tf.range(tf.cast(size // 2 + 1, tf.float32))) ** -slope
    noise = tf.signal.irfft(white * tf.cast(shape, tf.complex64), [size])[: tf.size(waveform)]
    wanted = _power(waveform) / _from_decibels(2 * snr_db)
    return waveform + noise * tf.sqrt(wanted / (_power(noise) + 1e-20))


def _power_of_two(size: tf.Tensor) -> tf.Tensor:
    """The next one: TensorFlow's transform is slow at other lengths."""
    # A rounding error must not double a power of two.
    exponent = tf.math.ceil(tf.math.log(tf.cast(size, tf.float64)) / math.log(2) - 1e-9)
    return tf.cast(2.0**exponent, tf.int32)


def _uniform(seed: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, *bounds)


def _from_decibels(decibels: tf.Tensor) -> tf.Tensor:
    return tf.exp(decibels * (math.log(10) / 20))


def _power(waveform: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(waveform))
