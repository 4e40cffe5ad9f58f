from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from tfasr.artifacts.files import write_json, write_json_lines
from tfasr.configs.clients import ClientsConfig
from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, FbankConfig, SpecAugmentConfig
from tfasr.configs.seeds import counted_generator
from tfasr.data.clients import Client, ClientPipeline, batch_spec, read_clients, write_clients
from tfasr.data.prepared import PreparedData
from tfasr.data.shards import Record, write_shard
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics

FBANK = FbankConfig(sample_rate=8000, num_mels=8)
ANY_LENGTH = BatchConfig(min_seconds=0.1, max_seconds=5.0)
# Speaker, domain, seconds; two shards, over which "bo" is spread.
SPOKEN = [
    [("bo", "far", 0.3), ("ada", "near", 0.4), ("bo", "far", 0.5)],
    [("bo", "near", 0.6), ("cy", "far", 9.0), ("cy", "far", 0.7)],
]


def record(number, speaker, domain, seconds):
    generator = counted_generator(0, "audio", number)
    samples = generator.integers(-3000, 3000, int(seconds * 8000)).astype(np.int16)
    return Record(
        utterance_id=f"u{number}",
        number=number,
        samples=samples,
        # The one token names the utterance.
        tokens=[number],
        text="",
        speaker=speaker,
        domain=domain,
    )


def prepared(folder, spoken, compression="none"):
    files, rows, number = [], [], 0
    for index, shard in enumerate(spoken):
        records = []
        for speaker, domain, seconds in shard:
            records.append(record(number, speaker, domain, seconds))
            rows.append({"duration": seconds, "speaker": speaker, "domain": domain})
            number += 1
        files.append({"file": f"{index}.tfrecord"})
        write_shard(folder / f"{index}.tfrecord", records, compression)
    write_json_lines(folder / "train.jsonl", rows)
    splits = {"train": {"shards": files}}
    index = {"sample_rate": 8000, "compression": compression, "splits": splits}
    write_json(folder / "data.json", index)
    return PreparedData(folder)


def write(data, folder, domains=(), limits=ANY_LENGTH, **settings):
    return write_clients(
        data, folder, domains=domains, limits=limits, config=ClientsConfig(**settings), seed=0
    )


def make_pipeline(**changes):
    statistics = FeatureStatistics((0.0,) * 8, (1.0,) * 8)
    settings = {
        "extractor": FeatureExtractor(FBANK, statistics),
        "augmentation": AugmentConfig(speeds=(1.0,), gain_db=(0, 0), dither=0.0),
        "masking": SpecAugmentConfig(frequency_masks=0, time_masks=0),
        "batch": 2,
        "steps": 9,
        "straggler_share": 0.0,
        "seed": 0,
    }
    return ClientPipeline(**{**settings, **changes})


@pytest.fixture(scope="module")
def pipeline():
    """Batches of two; tracing them takes a second, so tests share them."""
    return make_pipeline()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Client:
    """One client with seven utterances."""
    folder = tmp_path_factory.mktemp("crowd")
    data = prepared(folder / "data", [[("bo", "far", 0.3 + 0.1 * n) for n in range(7)]])
    return write(data, folder / "clients")[0]


def tokens(dataset):
    return [batch["tokens"].numpy().ravel().tolist() for batch in dataset]


def words(dataset):
    return sorted(chain.from_iterable(tokens(dataset)))


def test_a_client_is_a_speaker_over_all_shards(pipeline, tmp_path):
    data = prepared(tmp_path / "data", SPOKEN)
    clients = write(data, tmp_path / "clients")
    about = [(client.name, client.utterances, client.seconds) for client in clients]
    assert about == [("ada", 1, 0.4), ("bo", 3, pytest.approx(1.4)), ("cy", 1, 0.7)]
    heard = [words(pipeline.round(client, 0)) for client in clients]
    assert heard == [[1], [0, 2, 3], [5]]


def test_only_the_domains_asked_for_are_taken(tmp_path):
    data = prepared(tmp_path / "data", SPOKEN)
    clients = write(data, tmp_path / "clients", domains=("near",))
    assert [(client.name, client.utterances) for client in clients] == [("ada", 1), ("bo", 1)]


def test_what_was_written_is_read_again(tmp_path):
    data = prepared(tmp_path / "data", SPOKEN)
    written = write(data, tmp_path / "clients")
    (tmp_path / "data" / "0.tfrecord").unlink()
    again = write(data, tmp_path / "clients")
    assert again == written


def test_an_utterance_without_a_speaker_is_refused_and_nothing_written(tmp_path):
    data = prepared(tmp_path / "data", [[("ada", "near", 0.4), ("", "near", 0.4)]])
    with pytest.raises(ValueError, match=r"data: with clients\.by=speaker .* got 1 of 2"):
        write(data, tmp_path / "clients")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_domain_nobody_speaks_in_is_refused(tmp_path):
    data = prepared(tmp_path / "data", SPOKEN)
    with pytest.raises(ValueError, match="got moon, there are far, near"):
        write(data, tmp_path / "clients", domains=("moon",))


def test_limits_that_leave_nothing_are_refused(tmp_path):
    data = prepared(tmp_path / "data", SPOKEN)
    limits = BatchConfig(min_seconds=50, max_seconds=60)
    with pytest.raises(ValueError, match=r"between 50 and 60 s; got none"):
        write(data, tmp_path / "clients", limits=limits)


def test_every_client_has_the_same_element_spec(pipeline, crowd):
    assert pipeline.round(crowd, 0).element_spec == batch_spec(8)


def test_features_are_those_of_the_extractor(crowd):
    pipeline = make_pipeline(batch=7)
    [batch] = pipeline.round(crowd, 0)
    place = batch["tokens"].numpy().ravel().tolist().index(3)
    samples = record(3, "bo", "far", 0.6).samples / np.float32(2**15)
    features, frames = pipeline.extractor(samples[None], np.array([len(samples)], np.int32))
    assert batch["num_frames"][place] == frames[0]
    np.testing.assert_allclose(batch["features"][place, : frames[0]], features[0], atol=1e-5)


def test_a_round_is_one_pass_at_most(pipeline, crowd):
    heard = pipeline.round(crowd, 0)
    assert [len(batch) for batch in tokens(heard)] == [2, 2, 2, 1]
    assert words(heard) == list(range(7))


def test_a_round_has_no_more_than_its_steps(crowd):
    assert [len(batch) for batch in tokens(make_pipeline(steps=2).round(crowd, 0))] == [2, 2]


def test_a_round_is_the_same_each_time_it_is_read(crowd):
    noisy = AugmentConfig(noise_share=1.0)
    pipeline = make_pipeline(augmentation=noisy, masking=SpecAugmentConfig())
    for once, again in zip(pipeline.round(crowd, 3), pipeline.round(crowd, 3), strict=True):
        for name in once:
            np.testing.assert_array_equal(once[name], again[name])


def test_another_round_has_another_order_and_other_dropout(pipeline, crowd):
    first, second = (list(pipeline.round(crowd, number)) for number in (0, 1))
    assert tokens(first) != tokens(second)
    seeds = {tuple(batch["seed"].numpy()) for batch in [*first, *second]}
    assert len(seeds) == 8


def test_a_client_is_a_domain_where_that_is_asked_for(pipeline, tmp_path):
    clients = write(prepared(tmp_path / "data", SPOKEN), tmp_path / "clients", by="domain")
    assert [(client.name, client.utterances) for client in clients] == [("far", 3), ("near", 2)]
    assert [words(pipeline.round(client, 0)) for client in clients] == [[0, 2, 5], [1, 3]]


def test_no_two_clients_of_a_fixed_size_have_the_same_utterance(pipeline, tmp_path):
    clients = write(prepared(tmp_path / "data", SPOKEN), tmp_path / "clients", by="size", size=2)
    assert [(client.name, client.utterances) for client in clients] == [
        ("part-00000", 2),
        ("part-00001", 2),
    ]
    heard = [word for client in clients for word in words(pipeline.round(client, 0))]
    assert len(set(heard)) == 4
    assert set(heard) <= {0, 1, 2, 3, 5}


def test_compressed_shards_are_read(pipeline, tmp_path):
    clients = write(prepared(tmp_path / "data", SPOKEN, "gzip"), tmp_path / "clients")
    assert words(pipeline.round(clients[1], 0)) == [0, 2, 3]


@pytest.mark.parametrize("lost", ["removed", "emptied"])
def test_a_client_without_data_is_named(tmp_path, lost):
    clients = write(prepared(tmp_path / "data", SPOKEN), tmp_path / "clients")
    clients[1].file.unlink()
    if lost == "emptied":
        clients[1].file.touch()
    with pytest.raises(ValueError, match=r"tfrecord: client bo must have data; got none\. Remove"):
        read_clients(tmp_path / "clients")


def test_a_straggler_stops_after_steps_of_its_own_in_every_round(crowd):
    pipeline = make_pipeline(steps=4, straggler_share=1.0)
    steps = pipeline.most_steps(crowd)
    assert steps < 4
    for number in range(2):
        assert len(tokens(pipeline.round(crowd, number))) == steps


def test_stragglers_are_as_many_as_was_asked_for_and_not_alike(crowd):
    pipeline = make_pipeline(steps=4, straggler_share=0.25)
    clients = [replace(crowd, name=str(number)) for number in range(400)]
    steps = [pipeline.most_steps(client) for client in clients]
    assert set(steps) == {1, 2, 3, 4}
    assert 75 <= sum(most < 4 for most in steps) <= 125  # 100 are expected, deviation 9.


def test_a_client_makes_no_more_steps_than_it_has_batches(crowd):
    assert make_pipeline(steps=9).num_steps(crowd) == 4
    assert make_pipeline(steps=3).num_steps(crowd) == 3
