"""Where a dataset's utterances come from: shards, or the corpus's own recordings.

Both list candidates, which are cheap: a key, a number and a length are enough to shuffle and to
batch by. What a key stands for is loaded once its batch is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.corpora import Compression
from tfasr.data.shards import parse_record

# Of a shard, read at once.
_READ_BYTES = 1 << 22
_SUMMARY = {
    "number": tf.io.FixedLenFeature([], tf.int64),
    "pcm": tf.io.FixedLenFeature([], tf.string),
    "domain": tf.io.FixedLenFeature([], tf.string),
}


class Source(Protocol):
    """The utterances of one split."""

    def items(self) -> NDArray[Any]:
        """What an epoch is shuffled by at first: [N] files or rows."""
        ...

    def candidates(self, items: tf.Tensor) -> tf.data.Dataset:
        """Lists utterances without their audio.

        Args:
            items: Some of `items()`, in the order in which they are read.

        Returns:
            Dicts with the scalars "key", "number" int64, "num_samples" int32 and "domain".
        """
        ...

    def load(self, keys: tf.data.Dataset) -> tf.data.Dataset:
        """From keys to examples, as `parse_record` makes them."""
        ...


@dataclass(frozen=True)
class ShardSource:
    """Utterances of TFRecord shards; a key is a whole record.

    Args:
        files: The shards.
        compression: Of all of them.
    """

    files: Sequence[Path]
    compression: Compression = "none"

    def items(self) -> NDArray[Any]:
        return np.array([str(path) for path in self.files])

    def candidates(self, items: tf.Tensor) -> tf.data.Dataset:
        # One file an element: a tf.data service deals them out to its workers.
        kind = {"none": "", "gzip": "GZIP"}[self.compression]
        records = tf.data.Dataset.from_tensor_slices(items).flat_map(
            lambda file: tf.data.TFRecordDataset(file, kind, _READ_BYTES)
        )
        return records.map(_candidate, num_parallel_calls=tf.data.AUTOTUNE)

    def load(self, keys: tf.data.Dataset) -> tf.data.Dataset:
        return keys.map(parse_record)


def _candidate(record: tf.Tensor) -> dict[str, tf.Tensor]:
    fields = tf.io.parse_single_example(record, _SUMMARY)
    return {
        "key": record,
        "number": fields["number"],
        "num_samples": tf.strings.length(fields["pcm"]) // 2,
        "domain": fields["domain"],
    }
