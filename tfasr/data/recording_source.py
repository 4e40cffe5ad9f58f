"""Utterances decoded from the corpus's own recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.audio.reading import AudioReader
from tfasr.data.recordings import decode_recordings

_STRINGS = ("id", "text", "speaker", "domain")


@dataclass(frozen=True)
class RecordingSource:
    """Utterances of recordings in any format; a key is a row of the manifest.

    Args:
        folder: What relative paths in the manifest start from.
        rows: Of the manifest that `tfasr prepare` wrote.
        tokens: Token ids of each row.
        reader: Decodes.
    """

    folder: Path
    rows: Sequence[dict[str, Any]]
    tokens: Sequence[Sequence[int]]
    reader: AudioReader

    def items(self) -> NDArray[Any]:
        return np.arange(len(self.rows))

    def candidates(self, items: tf.Tensor) -> tf.data.Dataset:
        samples = np.round(self._column("duration", 0.0) * self.reader.sample_rate)
        lengths, domains = tf.constant(samples, tf.int32), tf.constant(self._column("domain", ""))

        def describe(row: tf.Tensor) -> dict[str, tf.Tensor]:
            return {
                "key": row,
                "number": row,
                "num_samples": lengths[row],
                "domain": domains[row],
            }

        return tf.data.Dataset.from_tensor_slices(items).map(describe)

    def load(self, keys: tf.data.Dataset) -> tf.data.Dataset:
        columns = {name: tf.constant(self._column(name, "")) for name in _STRINGS}
        columns["audio_filepath"] = tf.constant(self._paths)
        columns["offset"] = tf.constant(self._column("offset", 0.0), tf.float64)
        # A whole recording needs no duration, and is decoded faster without.
        parts = [row["duration"] if "offset" in row else 0.0 for row in self.rows]
        columns["duration"] = tf.constant(parts, tf.float64)
        tokens = tf.ragged.constant(self.tokens, tf.int32, inner_shape=())

        def describe(row: tf.Tensor) -> dict[str, tf.Tensor]:
            own = tokens[row]
            return {
                **{name: column[row] for name, column in columns.items()},
                "number": row,
                "tokens": own,
                "num_tokens": tf.size(own),
            }

        return decode_recordings(keys.map(describe), reader=self.reader)

    @cached_property
    def _paths(self) -> list[str]:
        return [str(self.folder / row["audio_filepath"]) for row in self.rows]

    def _column(self, name: str, default: Any) -> NDArray[Any]:
        return np.array([row.get(name, default) for row in self.rows])
