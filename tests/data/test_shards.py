import numpy as np
import pytest
import tensorflow as tf

from tfasr.data.shards import Record, parse_record, write_shard

RECORD = Record(
    utterance_id="train-1",
    number=7,
    samples=np.array([0, 1, -1, 32767, -32768], np.int16),
    tokens=[3, 0, 3],
    text="größe 水",
    speaker="ada",
    domain="close",
)


def read(path):
    return [parse_record(record) for record in tf.data.TFRecordDataset(str(path))]


def test_a_record_is_read_as_it_was_written(tmp_path):
    write_shard(tmp_path / "a.tfrecord", [RECORD])
    (example,) = read(tmp_path / "a.tfrecord")
    expected = np.array([0, 1, -1, 32767, -32768]) / 32768
    np.testing.assert_array_equal(example["waveform"], expected.astype(np.float32))
    assert example["num_samples"].numpy() == 5
    assert example["tokens"].numpy().tolist() == [3, 0, 3]
    assert example["num_tokens"].numpy() == 3
    assert example["number"].numpy() == 7
    names = ("id", "text", "speaker", "domain")
    values = [example[name].numpy().decode() for name in names]
    assert values == ["train-1", "größe 水", "ada", "close"]


def test_a_record_may_be_empty(tmp_path):
    empty = Record(
        utterance_id="x",
        number=0,
        samples=np.zeros(0, np.int16),
        tokens=[],
        text="",
        speaker="",
        domain="",
    )
    write_shard(tmp_path / "a.tfrecord", [empty])
    (example,) = read(tmp_path / "a.tfrecord")
    assert example["waveform"].shape == (0,)
    assert example["tokens"].shape == (0,)
    assert example["speaker"].numpy() == b""


def test_samples_of_big_endian_machines_are_the_same_file(tmp_path):
    big = RECORD.samples.astype(">i2")
    write_shard(tmp_path / "a", [RECORD])
    write_shard(tmp_path / "b", [Record(**{**vars(RECORD), "samples": big})])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_shard_that_fails_half_way_is_not_there(tmp_path):
    def records():
        yield RECORD
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_shard(tmp_path / "shards" / "a.tfrecord", records())
    assert list((tmp_path / "shards").iterdir()) == []
