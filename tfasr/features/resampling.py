"""Other sample rates, in stock TensorFlow operations."""

import numpy as np
import tensorflow as tf

# A filter is a table of both reduced rates; those of recorders are multiples of 25 Hz and more.
_LARGEST = 1000
# SciPy's: zero crossings to each side, and the shape of its Kaiser window.
_CROSSINGS = 10
_BETA = 5.0


def resample(waveform: tf.Tensor, rate: tf.Tensor, sample_rate: int) -> tf.Tensor:
    """Resamples behind an anti-aliasing filter; one graph takes any rate.

    What it gives is what `scipy.signal.resample_poly` does, with which corpora are prepared.

    Args:
        waveform: [T] float32.
        rate: Its sample rate in hertz, scalar int32, positive.
        sample_rate: That of the result, in hertz.

    Returns:
        [ceil(T sample_rate / rate)] float32; `waveform` itself where the rates are equal.

    Raises:
        InvalidArgumentError: When it is run: the rates have no common divisor that is large
            enough; those of recorders, such as 11,025 or 44,100 Hz, have.

    Source: Smith, "Digital Audio Resampling", for the window method.
    """
    common = _greatest_common_divisor(rate, tf.constant(sample_rate))
    up, down = sample_rate // common, rate // common
    possible = tf.debugging.Assert(
        tf.maximum(up, down) <= _LARGEST,
        ["audio must have a common sample rate, such as 8000, 16000, 44100 or 48000 Hz; got", rate],
    )
    # Made eagerly, the check returns nothing.
    with tf.control_dependencies([] if possible is None else [possible]):
        return tf.cond(
            tf.equal(rate, sample_rate), lambda: waveform, lambda: _filtered(waveform, up, down)
        )


def _greatest_common_divisor(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    common, _ = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (a, b))
    return common


def _filtered(waveform: tf.Tensor, up: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Makes `up` samples of `down`, by one matrix product over all stretches of `down` samples."""
    half = _CROSSINGS * tf.maximum(up, down)
    reach = -(-half // up)  # input samples to each side
    num_samples = tf.size(waveform)
    # In parts, lest an hour of samples times `up` pass 2^31.
    wanted = num_samples // down * up - (-(num_samples % down) * up // down)
    stretches = -(-num_samples // down)
    width = down + 2 * reach + 1
    padded = tf.pad(waveform, [[reach, width + down]])
    starts = tf.range(stretches)[:, None] * down
    frames = tf.gather(padded, starts + tf.range(width))  # [stretches, width]
    places = half + tf.range(up) * down - (tf.range(width)[:, None] - reach) * up
    inside = (places >= 0) & (places <= 2 * half)
    taps = tf.gather(_low_pass(half, up, down), tf.clip_by_value(places, 0, 2 * half))
    resampled = tf.matmul(frames, tf.where(inside, taps, 0.0))  # [stretches, up]
    return tf.reshape(resampled, [-1])[:wanted]


def _low_pass(half: tf.Tensor, up: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """A windowed sinc of 2 `half` + 1 taps, float32, for samples `up` times as dense."""
    cutoff = 1 / tf.cast(tf.maximum(up, down), tf.float64)
    place = tf.cast(tf.range(-half, half + 1), tf.float64)
    angle = np.pi * cutoff * place
    ones = tf.ones_like(place)
    sinc = tf.where(place == 0, ones, tf.math.divide_no_nan(tf.sin(angle), angle))
    edge = tf.cast(half, tf.float64)
    window = tf.math.bessel_i0(_BETA * tf.sqrt(1 - (place / edge) ** 2))
    taps = sinc * window
    return tf.cast(taps / tf.reduce_sum(taps) * tf.cast(up, tf.float64), tf.float32)
