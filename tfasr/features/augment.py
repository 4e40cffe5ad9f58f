"""Changes to training waveforms, each drawn from a seed of its own."""

import math

import tensorflow as tf

from tfasr.configs.features import AugmentConfig
from tfasr.features.fbank import INT16_SCALE

# Knots of the random channel response, evenly spaced from 0 Hz to half the sample rate.
_CHANNEL_KNOTS = 8


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
        noisy = add_noise(waveform, seeds[3], _uniform(seeds[4], config.noise_snr_db))
        waveform = tf.where(_uniform(seeds[5], (0.0, 1.0)) < config.noise_share, noisy, waveform)
    if config.dither:
        white = tf.random.stateless_normal(tf.shape(waveform), seeds[6])
        waveform += white * (config.dither / INT16_SCALE)
    return waveform


def change_speed(waveform: tf.Tensor, speed: tf.Tensor) -> tf.Tensor:
    """Plays a waveform faster or slower; the pitch follows.

    Resamples by cutting or extending the spectrum, which is ideal band-limited interpolation.

    Args:
        waveform: [T] float32.
        speed: Scalar float32, 1 for no change.

    Returns:
        [round(T / speed)] float32.
    """
    # An even length keeps the cut spectrum free of a lone Nyquist term, and a multiple of 64
    # keeps the transform fast.
    before = _round_up(tf.size(waveform), 64)
    after = 2 * tf.cast(tf.math.ceil(tf.cast(before, tf.float32) / speed / 2), tf.int32)
    spectrum = tf.signal.rfft(waveform, [before])
    bins = after // 2 + 1
    spectrum = tf.pad(spectrum, [[0, tf.maximum(bins - before // 2 - 1, 0)]])[:bins]
    scale = tf.cast(after, tf.float32) / tf.cast(before, tf.float32)
    samples = tf.cast(tf.round(tf.cast(tf.size(waveform), tf.float32) / speed), tf.int32)
    return tf.signal.irfft(spectrum, [after])[:samples] * scale


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
    size = _round_up(tf.size(waveform), 64)
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
    size = _round_up(tf.size(waveform), 64)
    white = tf.signal.rfft(tf.random.stateless_normal([size], seeds[0]))
    slope = _uniform(seeds[1], (0.0, 1.0))
    shape = (1.0 + tf.range(tf.cast(size // 2 + 1, tf.float32))) ** -slope
    noise = tf.signal.irfft(white * tf.cast(shape, tf.complex64), [size])[: tf.size(waveform)]
    wanted = _power(waveform) / _from_decibels(2 * snr_db)
    return waveform + noise * tf.sqrt(wanted / (_power(noise) + 1e-20))


def _round_up(size: tf.Tensor, multiple: int) -> tf.Tensor:
    return tf.maximum((size + multiple - 1) // multiple, 1) * multiple


def _uniform(seed: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, *bounds)


def _from_decibels(decibels: tf.Tensor) -> tf.Tensor:
    return tf.exp(decibels * (math.log(10) / 20))


def _power(waveform: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(waveform))
