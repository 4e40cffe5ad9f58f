"""TFRecord shards: 16-bit PCM with token ids, text and speaker."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.artifacts.files import atomic_path
from tfasr.configs.corpora import Compression
from tfasr.features.fbank import INT16_SCALE

# TensorFlow's names for what the operating system calls a full disk and a too large file.
_ERRNO = {
    tf.errors.RESOURCE_EXHAUSTED: (errno.ENOSPC, "No space left on device"),
    tf.errors.OUT_OF_RANGE: (errno.EFBIG, "File too large"),
}

_FIELDS = {
    "id": tf.io.FixedLenFeature([], tf.string),
    "number": tf.io.FixedLenFeature([], tf.int64),
    "pcm": tf.io.FixedLenFeature([], tf.string),
    "tokens": tf.io.VarLenFeature(tf.int64),
    "text": tf.io.FixedLenFeature([], tf.string),
    "speaker": tf.io.FixedLenFeature([], tf.string),
    "domain": tf.io.FixedLenFeature([], tf.string),
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One utterance of a shard.

    Args:
        utterance_id: Unique in its corpus.
        number: Its place in its split, which counts its random draws.
        samples: int16 [T].
        tokens: Token ids; empty where the data has no tokenizer.
        text: Normalised transcript.
        speaker: Who speaks, or "".
        domain: Where it was recorded, or "".
    """

    utterance_id: str
    number: int
    samples: NDArray[np.int16]
    tokens: list[int]
    text: str
    speaker: str
    domain: str


def write_shard(path: Path, records: Iterable[Record], compression: Compression = "none") -> None:
    """Writes a shard whole or not at all; the same records give the same bytes.

    Args:
        path: The file.
        records: Taken one by one.
        compression: Of the file.

    Raises:
        OSError: The file can't be written; has its name.
    """
    options = tf.io.TFRecordOptions(compression_type="" if compression == "none" else "GZIP")
    with atomic_path(path) as staged:
        try:
            with tf.io.TFRecordWriter(str(staged), options) as writer:
                for record in records:
                    writer.write(_serialise(record))
        except tf.errors.OpError as error:
            number, reason = _ERRNO.get(error.error_code, (errno.EIO, error.message))
            raise OSError(number, reason, str(path)) from None


def _serialise(record: Record) -> bytes:
    def strings(value: str | bytes) -> tf.train.Feature:
        data = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))

    def integers(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "id": strings(record.utterance_id),
        "number": integers([record.number]),
        "pcm": strings(record.samples.astype("<i2").tobytes()),
        "tokens": integers(record.tokens),
        "text": strings(record.text),
        "speaker": strings(record.speaker),
        "domain": strings(record.domain),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString())


def parse_record(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
    """Reads a record in a graph.

    Args:
        serialised: Scalar string.

    Returns:
        "waveform" [T] float32 in [-1, 1], "num_samples" scalar int32, "tokens" [U] int32,
        "num_tokens" scalar int32, "number" scalar int64, and the scalar strings "id", "text",
        "speaker" and "domain".
    """
    fields = tf.io.parse_single_example(serialised, _FIELDS)
    pcm = tf.io.decode_raw(fields["pcm"], tf.int16)
    tokens = tf.cast(tf.sparse.to_dense(fields["tokens"]), tf.int32)
    return {
        "waveform": tf.cast(pcm, tf.float32) / INT16_SCALE,
        "num_samples": tf.size(pcm),
        "tokens": tokens,
        "num_tokens": tf.size(tokens),
        **{name: fields[name] for name in ("number", "id", "text", "speaker", "domain")},
    }
