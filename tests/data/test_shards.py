import gzip

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.seeds import counted_generator
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


def read(path, compression=""):
    return [parse_record(record) for record in tf.data.TFRecordDataset(str(path), compression)]


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


def test_a_compressed_shard_is_gzip_and_holds_the_same(tmp_path):
    write_shard(tmp_path / "a", [RECORD])
    write_shard(tmp_path / "a.gz", [RECORD], "gzip")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == (tmp_path / "a").read_bytes()
    assert read(tmp_path / "a.gz", "GZIP")[0]["text"].numpy().decode() == "größe 水"


def test_a_compressed_shard_has_no_time_in_it(tmp_path):
    write_shard(tmp_path / "a.gz", [RECORD], "gzip")
    # RFC 1952: the modification time is in bytes 4 to 7; 0 is none.
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_shard_that_does_not_fit_is_named_and_not_there(tmp_path, no_file_over, compression):
    noise = counted_generator(0, "a shard").integers(-30000, 30000, 20_000).astype(np.int16)
    long = Record(**{**vars(RECORD), "samples": noise})
    with no_file_over(10_000), pytest.raises(OSError, match="File too large") as raised:
        write_shard(tmp_path / "a", [long], compression)
    assert raised.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_fails_half_way_is_not_there(tmp_path):
    def records():
        yield RECORD
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_shard(tmp_path / "shards" / "a.tfrecord", records())
    assert list((tmp_path / "shards").iterdir()) == []
