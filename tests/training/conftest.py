from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def scalars_of() -> Callable[[Path], dict[tuple[int, str], float]]:
    """Reads the scalars of a folder's TensorBoard events, by step and name."""

    def read(folder: Path) -> dict[tuple[int, str], float]:
        files = sorted(str(path) for path in folder.glob("events.*"))
        events = [
            tf.compat.v1.Event.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(files)
        ]
        return {
            (event.step, value.tag): float(tf.make_ndarray(value.tensor))
            for event in events
            for value in event.summary.value
        }

    return read
