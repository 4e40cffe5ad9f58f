"""WAV files, in stock TensorFlow operations."""

from typing import Any

import tensorflow as tf

from tfasr.features.fbank import INT16_SCALE

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def read_wav(wav: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a WAV file of 8, 16, 24 or 32-bit PCM, or of 32-bit floats.

    TensorFlow's own decoder knows 16 bits only. Channels are averaged. A file whose header
    says that there is more than there is, as a recorder's that writes to a pipe, is read to its
    end.

    Args:
        wav: The file, scalar string.

    Returns:
        [T] float32 in [-1, 1], and the sample rate in hertz, scalar int32.

    Raises:
        InvalidArgumentError: When it is run: the file is none of these.

    Source: Microsoft, "Multiple channel audio data and WAVE files".
    """
    length = tf.strings.length(wav)
    # Whatever a damaged file says, there is something to read where it points to.
    wav = tf.strings.join([wav, "\0" * 64])
    form, data = _chunks(wav, length)
    described = tf.strings.substr(wav, tf.maximum(form, 0), 34)
    encoding, channels, bits = (_uint16(described, at) for at in (8, 10, 22))
    encoding = tf.where(encoding == _EXTENSIBLE, _uint16(described, 32), encoding)
    rate = _int32(described, 12)
    known = (encoding == _PCM) & tf.reduce_any(bits == [8, 16, 24, 32])
    known |= (encoding == _FLOAT) & (bits == 32)
    starts = tf.strings.substr([wav, wav], [0, 8], [4, 4])
    checks = [
        _require(tf.reduce_all(starts == ["RIFF", "WAVE"]), "must be a WAV file"),
        _require((form >= 0) & (data >= 0), "must be a whole WAV file, with format and samples"),
        _require(known, "must be PCM of 8, 16, 24 or 32 bits, or floats of 32", encoding, bits),
        _require((channels > 0) & (rate > 0), "must have channels and a sample rate", channels),
    ]
    # None is what a check that is made eagerly returns.
    with tf.control_dependencies([check for check in checks if check is not None]):
        size = _shortened(_int32(wav, tf.maximum(data, 0) + 4), length - data - 8)
        frame = tf.maximum(channels * (bits // 8), 1)
        samples = tf.strings.substr(wav, tf.maximum(data, 0) + 8, size // frame * frame)
        values = _values(samples, tf.where(encoding == _FLOAT, 4, bits // 8 - 1))
    return tf.reduce_mean(tf.reshape(values, [-1, channels]), 1), rate


def _chunks(wav: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds where the chunks "fmt " and "data" begin, -1 for nowhere."""

    def advance(at: tf.Tensor, form: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, ...]:
        name, size = tf.strings.substr(wav, at, 4), _int32(wav, at + 4)
        form = tf.where(name == "fmt ", at, form)
        data = tf.where(name == "data", at, data)
        # Chunks have an even number of bytes. What reaches beyond the end is the last one.
        size = _shortened(size, length - at - 8)
        return at + 8 + size + size % 2, form, data

    _, form, data = tf.while_loop(
        lambda at, form, data: (at + 8 <= length) & (data < 0),
        advance,
        (tf.constant(12), tf.constant(-1), tf.constant(-1)),
    )
    return form, data


def _values(samples: tf.Tensor, kind: tf.Tensor) -> tf.Tensor:
    """Samples [N] float32 of bytes that are 8, 16, 24, 32-bit integers or, kind 4, floats."""

    def scaled(dtype: tf.DType, scale: float, offset: float = 0.0) -> tf.Tensor:
        return (tf.cast(tf.io.decode_raw(samples, dtype), tf.float32) - offset) / scale

    def of_24_bits() -> tf.Tensor:
        low, middle, high = tf.unstack(
            tf.reshape(tf.cast(tf.io.decode_raw(samples, tf.uint8), tf.int32), [-1, 3]), axis=1
        )
        signed = tf.where(high > 127, high - 256, high)
        return tf.cast(low + 256 * middle + 65536 * signed, tf.float32) / 2**23

    def of_floats() -> tf.Tensor:
        floats = tf.debugging.check_numerics(scaled(tf.float32, 1.0), "audio must be finite")
        return tf.clip_by_value(floats, -1.0, 1.0)

    return tf.switch_case(
        kind,
        [
            lambda: scaled(tf.uint8, 128.0, 128.0),
            lambda: scaled(tf.int16, INT16_SCALE),
            of_24_bits,
            lambda: scaled(tf.int32, 2.0**31),
            of_floats,
        ],
    )


def _uint16(text: tf.Tensor, at: Any) -> tf.Tensor:
    return tf.cast(tf.io.decode_raw(tf.strings.substr(text, at, 2), tf.uint16)[0], tf.int32)


def _int32(text: tf.Tensor, at: Any) -> tf.Tensor:
    return tf.io.decode_raw(tf.strings.substr(text, at, 4), tf.int32)[0]


def _shortened(size: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """The size of a chunk whose header may say more, or as an unsigned number, than is left."""
    return tf.where((size < 0) | (size > left), left, size)


def _require(condition: tf.Tensor, rule: str, *got: tf.Tensor) -> Any:
    return tf.debugging.Assert(condition, [f"audio {rule}", *(["; got", *got] if got else [])])
