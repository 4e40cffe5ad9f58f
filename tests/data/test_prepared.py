import shutil

import pytest
import tensorflow as tf

from tfasr.artifacts.files import read_json, write_json, write_json_lines
from tfasr.data.prepared import PreparedData
from tfasr.preparation.preparation import Preparation


@pytest.fixture
def copy(tiny_data, tmp_path):
    return shutil.copytree(tiny_data.folder, tmp_path / "data")


def test_the_settings_of_the_features_are_kept(tiny_data):
    assert (tiny_data.fbank.sample_rate, tiny_data.fbank.num_mels) == (8000, 8)


def test_shards_are_listed_in_order(tiny_data):
    assert [path.name for path in tiny_data.shards("train")] == [
        "train-00000.tfrecord",
        "train-00001.tfrecord",
        "train-00002.tfrecord",
    ]


def test_durations_are_those_of_the_domains_asked_for(tiny_data):
    assert tiny_data.durations("test") == [0.5, 0.75] * 3
    assert tiny_data.durations("test", ("phone",)) == [0.75] * 3


def test_a_domain_that_is_not_there_is_named_with_those_that_are(tiny_data):
    with pytest.raises(ValueError, match=r"'test' .* got car, there are close, phone"):
        tiny_data.durations("test", ("car",))


def test_what_is_not_withheld_is_trained_on(copy):
    index = read_json(copy / "data.json")
    write_json(copy / "data.json", {**index, "withheld_domains": ["phone"]})
    data = PreparedData(copy)
    assert data.withheld_domains == ("phone",)
    assert data.domains_to_train_on(()) == ("close",)
    assert data.domains_to_train_on(("phone",)) == ("phone",)
    assert PreparedData(copy).domains_to_train_on(("close", "phone")) == ("close", "phone")


def test_a_split_without_utterances_is_named_with_those_that_have_some(copy):
    index = read_json(copy / "data.json")
    index["splits"]["valid"]["shards"] = []
    write_json(copy / "data.json", index)
    with pytest.raises(ValueError, match="split 'valid' is empty; it has train, test"):
        PreparedData(copy).shards("valid")


def test_a_shard_that_was_lost_is_named(copy):
    (copy / "shards" / "train-00001.tfrecord").unlink()
    with pytest.raises(ValueError, match=r"train-00001\.tfrecord: this shard is missing"):
        PreparedData(copy).shards("train")


def test_data_to_evaluate_on_has_no_statistics(copy):
    (copy / "cmvn.json").unlink()
    with pytest.raises(ValueError, match="has no training split"):
        _ = PreparedData(copy).statistics


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a folder made by `tfasr prepare`$"):
        PreparedData(tmp_path)


def test_interrupted_preparation_is_told(write_corpus, prepare_config, tmp_path):
    config = prepare_config(write_corpus(tmp_path / "corpus", train=5), tmp_path / "data")

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Preparation(config).run(interrupt)
    with pytest.raises(ValueError, match=r"data: .*; its preparation was interrupted"):
        PreparedData(tmp_path / "data")


def test_a_shard_that_is_cut_short_is_named(copy):
    data = PreparedData(copy)
    shard = data.shards("train")[1]
    shard.write_bytes(shard.read_bytes()[:-5])
    source = data.source("train")
    with pytest.raises(ValueError, match=r"train-00001\.tfrecord: this shard is damaged"):
        with data.reading():
            list(source.candidates(tf.constant(source.items())))


def test_a_recording_that_is_gone_is_named(copy):
    data = PreparedData(copy)
    rows = data.manifest("test")
    write_json_lines(copy / "test.jsonl", [{**rows[0], "audio_filepath": "/nowhere/a.wav"}])
    source = data.source("test", "recordings")
    with pytest.raises(ValueError, match=r"^/nowhere/a\.wav: no such file$"):
        with data.reading():
            list(source.load(tf.data.Dataset.from_tensor_slices(source.items())))
