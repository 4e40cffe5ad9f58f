"""From file paths to samples inside a tf.data graph."""

import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError
from tfasr.features.fbank import INT16_SCALE

# The header of a WAV file with nothing in it but 16-bit samples.
HEADER_BYTES = 44
# What the system says of a file, and what `AudioReader` makes of it.
SYSTEM_REASONS = {
    "No such file or directory": "no such file",
    **{
        reason: f"must be a file that can be read; {reason}"
        for reason in ("Is a directory", "Permission denied")
    },
}


def decode_recordings(examples: tf.data.Dataset, *, reader: AudioReader) -> tf.data.Dataset:
    """Reads recordings, or parts of them, in parallel and in order.

    The samples are those of `AudioReader.read_part`. TensorFlow itself decodes what it decodes
    alike: whole 16-bit mono WAV files of the right rate. All else goes through `reader`, in
    this process: a tf.data service elsewhere can't run it.

    Args:
        examples: Dicts with the scalar strings "audio_filepath", float64 scalars "offset", in
            seconds, and "duration", in seconds or 0 for all that follows, and anything else.
        reader: Sample rate, channels, raw files, limits.

    Returns:
        The dicts without these three, with "waveform" [T] float32 in [-1, 1] and "num_samples"
        scalar int32. What can't be read stops the iteration with a TensorFlow error;
        `reading_errors` makes it a `CorpusError`.
    """

    # Not FLAC by tensorflow-io: it never ends on a file that is cut between two frames, gives
    # wrong samples without an error for a damaged frame, and is slower than libsndfile.
    def decode(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rest = dict(example)
        path, offset, duration = (rest.pop(key) for key in ("audio_filepath", "offset", "duration"))
        is_whole = tf.equal(offset, 0) & tf.equal(duration, 0)
        waveform = tf.cond(
            is_whole & tf.strings.regex_full_match(path, r"(?is).*\.wav"),
            lambda: _wav(path, reader),
            lambda: _by_reader(path, offset, duration, reader),
        )
        return {**rest, "waveform": waveform, "num_samples": tf.size(waveform)}

    return examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _wav(path: tf.Tensor, reader: AudioReader) -> tf.Tensor:
    data = tf.io.read_file(path)
    waveform = tf.cond(
        _is_plain_wav(data, reader),
        lambda: tf.audio.decode_wav(data, desired_channels=1).audio[:, 0],
        lambda: _by_reader(path, 0.0, 0.0, reader),
    )
    return tf.ensure_shape(waveform, [None])


def _is_plain_wav(data: tf.Tensor, reader: AudioReader) -> tf.Tensor:
    """Whether a file is 16-bit mono of the right rate and holds what its header says."""
    if reader.settings.channel == "right":
        return tf.constant(False)
    rate = reader.sample_rate
    form = struct.pack("<4s4sIHHIIHH4s", b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data")
    longest = math.floor(reader.settings.longest_seconds * rate)
    header = tf.io.decode_raw(data, tf.uint8, fixed_length=HEADER_BYTES)  # Zeros where it is short.
    num_bytes = tf.cast(tf.bitcast(header[40:], tf.uint32), tf.int64)
    return (
        tf.reduce_all(header[:4] == list(b"RIFF"))
        & tf.reduce_all(header[8:40] == list(form))
        & tf.equal(num_bytes % 2, 0)
        & (0 < num_bytes)
        & (num_bytes <= 2 * longest)
        & tf.equal(tf.cast(tf.strings.length(data), tf.int64), HEADER_BYTES + num_bytes)
    )


def _by_reader(
    path: tf.Tensor, offset: tf.Tensor | float, duration: tf.Tensor | float, reader: AudioReader
) -> tf.Tensor:
    read = tf.autograph.experimental.do_not_convert(partial(_read, reader))
    times = [tf.cast(offset, tf.float64), tf.cast(duration, tf.float64)]
    samples = tf.numpy_function(read, [path, *times], tf.int16, stateful=False)
    return tf.cast(tf.ensure_shape(samples, [None]), tf.float32) / INT16_SCALE


def _read(
    reader: AudioReader, path: bytes, offset: np.float64, duration: np.float64
) -> NDArray[np.int16]:
    part = (float(offset), float(duration) or math.inf)
    try:
        return reader.read_part(Path(os.fsdecode(path)), *part)
    except CorpusError as error:
        # TensorFlow prints all that the error came through.
        raise error.with_traceback(None) from None


@contextmanager
def reading_errors() -> Iterator[None]:
    """Raises what `decode_recordings` could not read as the one line it is, a `CorpusError`.

    Use it around the loop over the dataset; other errors pass.
    """
    try:
        yield
    except tf.errors.OpError as error:
        line = _line_of(error)
        if line is None:
            raise
        raise CorpusError(line) from None


def _line_of(error: tf.errors.OpError) -> str | None:
    message = str(error.message)
    if found := re.search(r"CorpusError: (.*)", message):
        return found[1]
    # Those of tf.io.read_file.
    if found := re.search(rf"^(?:{{{{.*?}}}} )?(.*); ({'|'.join(SYSTEM_REASONS)})", message):
        return f"{found[1]}: {SYSTEM_REASONS[found[2]]}"
    return None
