import gzip

import numpy as np
import pytest
import tensorflow as tf

from tfasr.data.shards import Record, write_shard
from tfasr.data.sources import ShardSource


def record(number, samples):
    return Record(
        utterance_id=f"u{number}",
        number=number,
        samples=np.arange(samples, dtype=np.int16),
        tokens=[3, 4],
        text="a b",
        speaker="ada",
        domain="close",
    )


@pytest.fixture
def source(tmp_path):
    write_shard(tmp_path / "a.tfrecord", [record(0, 5), record(1, 7)])
    write_shard(tmp_path / "b.tfrecord", [record(2, 3)])
    return ShardSource([tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"])


def candidates(source, items):
    return list(source.candidates(tf.constant(items)).as_numpy_iterator())


def test_candidates_are_listed_in_the_order_of_the_files(source):
    listed = candidates(source, source.items()[::-1])
    assert [(c["number"], c["num_samples"], c["domain"]) for c in listed] == [
        (2, 3, b"close"),
        (0, 5, b"close"),
        (1, 7, b"close"),
    ]


def test_a_key_is_loaded_as_the_whole_example(source):
    keys = [candidate["key"] for candidate in candidates(source, source.items())]
    (example,) = source.load(tf.data.Dataset.from_tensors(keys[1])).as_numpy_iterator()
    assert example["id"] == b"u1"
    assert example["tokens"].tolist() == [3, 4]
    np.testing.assert_array_equal(example["waveform"], np.arange(7, dtype=np.float32) / 32768)


def test_gzip_shards_read_alike(source, tmp_path):
    packed = []
    for file in source.files:
        packed.append(tmp_path / f"{file.name}.gz")
        packed[-1].write_bytes(gzip.compress(file.read_bytes()))
    other = ShardSource(packed, "gzip")
    assert candidates(other, other.items()) == candidates(source, source.items())
