import shutil

import pytest

from tfasr.artifacts.files import read_json, write_json
from tfasr.data.preparation import Preparation
from tfasr.data.prepared import PreparedData


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
    class Unplugged:
        def utterances(self):
            raise OSError("no such disk")

    config = prepare_config(tmp_path / "corpus", tmp_path / "data")
    with pytest.raises(OSError, match="no such disk"):
        Preparation(Unplugged(), config).run(lambda done, total: None)
    with pytest.raises(ValueError, match=r"data: .*; its preparation was interrupted"):
        PreparedData(tmp_path / "data")
