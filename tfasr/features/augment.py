"""Changes to training waveforms, drawn from stateless seeds.

Convolutions with fewer than a thousand taps go block by block through one strided `conv1d`:
on a CPU that takes a tenth of the time of a Fourier transform of the whole waveform.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.features.fbank import INT16_SCALE

# Half the resampling filter's length, in samples of the slower side.
_SINC_REACH = 16
# Knots of the random channel response, evenly spaced from 0 Hz to half the sample rate.
_CHANNEL_KNOTS = 9
# Taps of filters given by their gain, and how many samples are filtered at once.
_CHANNEL_TAPS = 256
_BAND_TAPS = 512
_BLOCK = 64
# 48 dB an octave, as of a telephone's filters.
_BAND_ORDER = 8
# Made noise is repeated from here on: 2 s at 16 kHz.
_NOISE_PERIOD = 1 << 15
# Made noise is white below this share of half the sample rate, 40 Hz at 16 kHz: brown noise
# would be a rumble that filterbanks leave out, at the ratio asked for.
_NOISE_KNEE = 1 / 200
# Direct sound over reverberation, in dB: from across a room to beside the microphone.
_DIRECT_DB = (0.0, 10.0)
_MU = 255.0
_LEAST_POWER = 1e-20


def stretched(num_samples: tf.Tensor, speed: float) -> tf.Tensor:
    """Samples that `change_speed` makes of so many: those within the old waveform.

    Args:
        num_samples: Integers of any shape.
        speed: With at most two decimals.

    Returns:
        ceil(num_samples / speed), exactly, of the same type.
    """
    step, phases = _ratio(speed)
    num_samples = tf.convert_to_tensor(num_samples)
    # 32 bits overflow within the hour.
    return tf.cast(-(-tf.cast(num_samples, tf.int64) * phases // step), num_samples.dtype)


def change_speed(waveform: tf.Tensor, speed: float) -> tf.Tensor:
    """Plays a waveform faster or slower; the pitch follows.

    Each sample is read between the old ones by a windowed sinc, which stops what a faster
    waveform can't hold.

    Args:
        waveform: [T] float32.
        speed: With at most two decimals, so that its filter has few phases.

    Returns:
        [ceil(T / speed)] float32.

    Source: Smith & Gossett (1984), "A flexible sampling-rate conversion method".
    """
    step, phases = _ratio(speed)
    if step == phases:
        return waveform
    reach = math.ceil(_SINC_REACH * max(1.0, speed))
    kernel = tf.constant(_sinc_phases(speed, reach), tf.float32)
    length = stretched(tf.size(waveform), speed)
    return _convolve(waveform, kernel, step=step, before=reach - 1, length=length)


def change_speed_to_one_of(
    waveform: tf.Tensor, speeds: Sequence[float], choice: tf.Tensor
) -> tf.Tensor:
    """Plays a waveform at the speed whose place in `speeds` is `choice`, a scalar int32."""
    return tf.switch_case(choice, [_at_speed(waveform, speed) for speed in speeds])


def change_gain(waveform: tf.Tensor, gain_db: tf.Tensor) -> tf.Tensor:
    """Amplifies a waveform [T] by a scalar in dB; nothing is clipped."""
    return waveform * from_decibels(gain_db)


def add_noise(waveform: tf.Tensor, noise: tf.Tensor, snr_db: tf.Tensor) -> tf.Tensor:
    """Adds noise at a signal-to-noise ratio.

    Args:
        waveform: [T] float32.
        noise: [N] float32; repeated where it is shorter.
        snr_db: Scalar float32, in dB. Silence stays silence.

    Returns:
        [T] float32.
    """
    noise = repeated(noise, tf.size(waveform))
    wanted = _power(waveform) / from_decibels(2 * snr_db)
    return waveform + noise * tf.sqrt(wanted / tf.maximum(_power(noise), _LEAST_POWER))


def repeated(noise: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
    """Repeats a waveform [N] up to `num_samples`, or cuts it there."""
    times = -(-num_samples // tf.maximum(tf.size(noise), 1))
    return tf.tile(noise, [times])[:num_samples]


def coloured_noise(num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Makes noise between white and brown.

    Args:
        num_samples: Scalar int32.
        seed: [2] integers.

    Returns:
        [N] float32 that has no seam when it is repeated; N is the next power of two, at most
        `_NOISE_PERIOD`.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    size = tf.minimum(_power_of_two(num_samples), _NOISE_PERIOD)
    bins = size // 2 + 1
    white = tf.complex(*tf.unstack(tf.random.stateless_normal([2, bins], seeds[0], alg="philox")))
    frequency = tf.linspace(0.0, 1.0, bins)
    gain = (1.0 + frequency / _NOISE_KNEE) ** -_uniform(seeds[1], (0.0, 1.0))
    return tf.signal.irfft(white * tf.cast(gain, tf.complex64), [size])


def reverberate(waveform: tf.Tensor, response: tf.Tensor) -> tf.Tensor:
    """Puts a waveform into a room; its length, its power and its place in time stay.

    Args:
        waveform: [T] float32.
        response: [N] float32, the room's impulse response; its largest value is the direct
            path, which arrives without delay.

    Returns:
        [T] float32.
    """
    samples = tf.size(waveform)
    size = _power_of_two(samples + tf.size(response))
    spectrum = tf.signal.rfft(waveform, [size]) * tf.signal.rfft(response, [size])
    direct = tf.argmax(tf.abs(response), output_type=tf.int32)
    wet = tf.signal.irfft(spectrum, [size])[direct : direct + samples]
    return wet * tf.sqrt(_power(waveform) / tf.maximum(_power(wet), _LEAST_POWER))


def made_room(seed: tf.Tensor, seconds: tf.Tensor, sample_rate: int) -> tf.Tensor:
    """Makes an impulse response: a direct path, and noise that decays exponentially behind it.

    Args:
        seed: [2] integers.
        seconds: Scalar float32, the time in which it falls by 60 dB.
        sample_rate: In hertz.

    Returns:
        [N] float32, N = `seconds` in samples. The direct path is the first sample.

    Source: Polack (1988), "La transmission de l'energie sonore dans les salles", the model
        of diffuse reverberation.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    samples = tf.maximum(2, tf.cast(tf.round(seconds * sample_rate), tf.int32))
    decay_db = tf.linspace(0.0, -60.0, samples)
    tail = tf.random.stateless_normal([samples], seeds[0], alg="philox") * from_decibels(decay_db)
    tail = tail[1:] * tf.math.rsqrt(tf.reduce_sum(tf.square(tail[1:])))
    # All of it has no more energy than the direct path, so no reflection is taken for that.
    tail *= from_decibels(-_uniform(seeds[1], _DIRECT_DB))
    return tf.concat([tf.ones([1]), tail], 0)


def change_channel(waveform: tf.Tensor, seed: tf.Tensor, tilt_db: float) -> tf.Tensor:
    """Filters a waveform by a random smooth response, as another microphone would.

    Args:
        waveform: [T] float32.
        seed: [2] integers.
        tilt_db: Largest gain or loss at a knot of the response, in dB.

    Returns:
        [T] float32, without delay.
    """
    knots = tf.random.stateless_uniform([_CHANNEL_KNOTS], seed, -tilt_db, tilt_db, alg="philox")
    place = np.linspace(0, _CHANNEL_KNOTS - 1, _CHANNEL_TAPS // 2 + 1)
    # Each knot's share in the response, straight from knot to knot.
    shares = np.maximum(0, 1 - np.abs(np.arange(_CHANNEL_KNOTS)[:, None] - place))
    return _with_gain(waveform, from_decibels(tf.linalg.matvec(shares.T.astype(np.float32), knots)))


def limit_band(
    waveform: tf.Tensor, low_hz: tf.Tensor, high_hz: tf.Tensor, sample_rate: int
) -> tf.Tensor:
    """Takes away what lies below and above two frequencies, each to half its power.

    Args:
        waveform: [T] float32.
        low_hz: Scalar float32.
        high_hz: Scalar float32; over half the sample rate, nothing is taken away there.
        sample_rate: In hertz.

    Returns:
        [T] float32, without delay.

    Source: Butterworth (1930), "On the theory of filter amplifiers": the gain.
    """
    # Not zero, so that no lower edge at all is a gain of 1 there.
    hertz = np.maximum(np.linspace(0, sample_rate / 2, _BAND_TAPS // 2 + 1), 1e-3)
    frequency = tf.constant(hertz, tf.float32)
    above = tf.math.rsqrt(1 + (low_hz / frequency) ** (2 * _BAND_ORDER))
    below = tf.math.rsqrt(1 + (frequency / high_hz) ** (2 * _BAND_ORDER))
    return _with_gain(waveform, above * below)


def compand(waveform: tf.Tensor) -> tf.Tensor:
    """Sends a waveform [T] through an 8-bit mu-law line; beyond [-1, 1] it is clipped.

    Source: ITU-T G.711, mu = 255, in its continuous form: 127 steps on either side of zero.
    """
    scale = math.log1p(_MU)
    code = tf.round(tf.math.log1p(_MU * tf.minimum(tf.abs(waveform), 1.0)) * (127 / scale))
    return tf.sign(waveform) * tf.math.expm1(code * (scale / 127)) / _MU


def add_dither(waveform: tf.Tensor, seed: tf.Tensor, deviation: float) -> tf.Tensor:
    """Adds white noise, which keeps the logarithm of silence finite.

    It is uniform where Kaldi's is normal: a window of hundreds of samples can't tell, and it
    takes a quarter of the time.

    Args:
        waveform: [T] float32.
        seed: [2] integers.
        deviation: Its standard deviation on the 16-bit scale.

    Returns:
        [T] float32.
    """
    samples = tf.size(waveform)
    # Each 32 bits are two draws of 16.
    bits = tf.random.stateless_uniform(
        [(samples + 1) // 2], seed, None, None, tf.int32, alg="philox"
    )
    white = tf.cast(tf.reshape(tf.bitcast(bits, tf.int16), [-1])[:samples], tf.float32)
    return waveform + white * (deviation / INT16_SCALE * math.sqrt(12) / 2**16)


def from_decibels(decibels: tf.Tensor) -> tf.Tensor:
    """The amplitude ratio."""
    return tf.exp(decibels * (math.log(10) / 20))


def _ratio(speed: float) -> tuple[int, int]:
    """Old samples in a block, and new ones: numerator and denominator."""
    fraction = Fraction(round(speed * 100), 100)
    return fraction.numerator, fraction.denominator


def _at_speed(waveform: tf.Tensor, speed: float) -> Callable[[], tf.Tensor]:
    return lambda: change_speed(waveform, speed)


def _sinc_phases(speed: float, reach: int) -> NDArray[np.float64]:
    """[taps, phases]: how each new sample of a block is made of the old ones from 1 - reach on."""
    step, phases = _ratio(speed)
    places = np.arange(phases) * step / phases
    distance = np.arange(1 - reach, step + reach)[:, None] - places
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / reach, -1, 1))
    taps = np.sinc(distance * min(1.0, 1 / speed)) * window
    return np.asarray(taps / taps.sum(0))


def _with_gain(waveform: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
    """Filters [T] by a gain [N / 2 + 1] from 0 Hz to half the sample rate, without delay."""
    taps = 2 * (gain.shape[0] - 1)
    response = tf.signal.irfft(tf.cast(gain, tf.complex64), [taps])
    # Each column of the kernel is the response, reversed and one sample later than the last.
    flipped = tf.reverse(tf.roll(response, taps // 2, 0), [0])
    shifted = tf.signal.frame(tf.pad(flipped, [[_BLOCK - 1] * 2]), taps + _BLOCK - 1, 1)
    kernel = tf.transpose(tf.reverse(shifted, [0]))
    return _convolve(waveform, kernel, step=_BLOCK, before=taps // 2 - 1, length=tf.size(waveform))


def _convolve(
    waveform: tf.Tensor, kernel: tf.Tensor, *, step: int, before: int, length: tf.Tensor
) -> tf.Tensor:
    """Makes a block of samples from each `step` of a waveform.

    Args:
        waveform: [T], zero outside.
        kernel: [taps, block]: one column for each sample of a block.
        step: Old samples from block to block.
        before: Old samples that the first block reaches back.
        length: Samples to make; at most T * block / step, rounded up.

    Returns:
        [length].
    """
    taps, block = kernel.shape
    # A convolution refuses a shape that is known to be smaller than its kernel.
    blocks = tf.maximum(1, -(-length // block))
    after = blocks * step + taps - step - before - tf.size(waveform)
    padded = tf.pad(waveform, [[before, after]])
    made = tf.nn.conv1d(padded[None, :, None], kernel[:, None, :], step, "VALID")
    return tf.reshape(made, [-1])[:length]  # [1, blocks, block] -> [length]


def _uniform(seed: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, *bounds, alg="philox")


def _power_of_two(size: tf.Tensor) -> tf.Tensor:
    """The next one, at least 2: TensorFlow's transform is slow at other lengths."""
    # A rounding error must not double a power of two.
    exponent = tf.math.ceil(tf.math.log(tf.cast(size, tf.float64)) / math.log(2) - 1e-9)
    return tf.cast(2.0 ** tf.maximum(exponent, 1), tf.int32)


def _power(waveform: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.square(waveform)), tf.cast(tf.size(waveform), tf.float32)
    )
