import functools
from dataclasses import replace

import numpy as np
import pytest

from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.data.batches import make_buckets
from tfasr.data.pipelines import TrainingPipeline, evaluation_batches, every_example
from tfasr.features.extractor import FeatureExtractor


@pytest.fixture(scope="module")
def pipeline(tiny_data):
    batching = BatchConfig(batch_seconds=1.5, num_buckets=2, shuffle_utterances=8)
    augmentation = AugmentConfig(speeds=(0.8, 1.0, 1.25), noise_share=0.5)
    durations = tiny_data.durations("train")
    return TrainingPipeline(
        source=tiny_data.source("train"),
        domains=(),
        buckets=make_buckets(durations, batching, augmentation.speeds),
        batching=batching,
        extractor=FeatureExtractor(tiny_data.fbank, tiny_data.statistics),
        augmentation=augmentation,
        masking=SpecAugmentConfig(frequency_width=2, time_width=10),
        seed=5,
    )


@pytest.fixture(scope="module")
def quiet(pipeline):
    """The same without augmentation or masks, which take a second to trace."""
    return replace(
        pipeline,
        batching=replace(pipeline.batching, shuffle_utterances=1),
        augmentation=AugmentConfig(speeds=(1.0,), gain_db=(0.0, 0.0), dither=0.0),
        masking=SpecAugmentConfig(frequency_masks=0, time_masks=0),
    )


@pytest.fixture(scope="module")
def halves(quiet):
    """The batches of an epoch for each of two hosts, from a batch on."""
    half = replace(quiet, every=2)
    return lambda skip: [batches_of(half.epoch(0, skip + index)) for index in range(2)]


@pytest.fixture(scope="module")
def epoch_of(pipeline):
    """The batches of an epoch; each costs a second to start, so tests share them."""
    # A copy would be traced anew.
    pipelines = {5: pipeline, 6: replace(pipeline, seed=6)}

    @functools.cache
    def epoch(number, skip=0, seed=5):
        return batches_of(pipelines[seed].epoch(number, skip))

    return epoch


def batches_of(data):
    return list(data.as_numpy_iterator())


def ids(batches):
    return [name.decode() for batch in batches for name in batch["id"]]


def assert_equal_batches(ours, theirs):
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.keys() == yours.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name], yours[name], err_msg=name)


def test_an_epoch_is_the_same_each_time(pipeline, epoch_of):
    assert_equal_batches(batches_of(replace(pipeline).epoch(0)), epoch_of(0))


def test_an_epoch_has_every_utterance_once(epoch_of):
    batches = epoch_of(0)
    assert sorted(ids(batches)) == [f"train-{number:02d}" for number in range(12)]
    assert len(batches) > 4


@pytest.mark.parametrize("skip", [4, 99])
def test_a_skipped_epoch_is_the_tail_of_the_whole_one(epoch_of, skip):
    assert_equal_batches(epoch_of(0, skip), epoch_of(0)[skip:])


@pytest.mark.parametrize(("seed", "epoch"), [(5, 1), (6, 0)])
def test_another_epoch_or_seed_is_in_another_order_and_sounds_otherwise(epoch_of, seed, epoch):
    ours, theirs = epoch_of(0), epoch_of(epoch, seed=seed)
    assert ids(ours) != ids(theirs)
    assert sorted(ids(ours)) == sorted(ids(theirs))
    for frames in (lambda b: b["num_frames"], lambda b: b["features"].sum((1, 2))):
        ours_by_id, theirs_by_id = (
            dict(zip(ids(batches), np.concatenate([frames(b) for b in batches]), strict=True))
            for batches in (ours, theirs)
        )
        assert sum(ours_by_id[name] == theirs_by_id[name] for name in ours_by_id) < 6


def test_a_training_batch_holds_no_more_than_its_seconds(epoch_of):
    for batch in epoch_of(0):
        # A frame is 25 ms, and the next one starts 10 ms later.
        seconds = 0.01 * (batch["features"].shape[1] - 1) + 0.025
        assert len(batch["features"]) * seconds <= 1.5 + 0.01


def test_an_epoch_is_traced_once(pipeline):
    pipeline.epoch(0)
    trace = pipeline._traced[0]
    pipeline.epoch(1, 3)
    assert pipeline._traced[0] is trace


def test_an_epoch_has_few_shapes(epoch_of):
    batches = [batch for number in range(2) for batch in epoch_of(number)]
    assert len({batch["features"].shape[1:] for batch in batches}) == 2
    assert len({batch["tokens"].shape[1] for batch in batches}) == 1


@pytest.mark.parametrize("skip", [0, 3])
def test_hosts_take_an_epoch_s_batches_in_turn(quiet, halves, skip):
    whole = batches_of(quiet.epoch(0, skip))
    for index, half in enumerate(halves(skip)):
        assert half
        assert_equal_batches(half, whole[index::2])


def test_the_batches_of_an_epoch_are_counted(pipeline, epoch_of):
    assert [pipeline.num_batches(number) for number in range(2)] == [
        len(epoch_of(number)) for number in range(2)
    ]


def test_batches_are_taken_in_turn_by_one_host_at_least(quiet):
    with pytest.raises(ValueError, match="every must be at least 1; got every=0"):
        replace(quiet, every=0)


def test_recordings_give_the_same_batches_as_shards(quiet, tiny_data):
    features = []
    for reading in ("shards", "recordings"):
        source = tiny_data.source("train", reading)
        batches = batches_of(replace(quiet, source=source).epoch(0))
        features.append(
            {
                name: (batch["features"][row, : batch["num_frames"][row]], batch["text"][row])
                for batch in batches
                for row, name in enumerate(batch["id"])
            }
        )
    ours, theirs = features
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name][0], theirs[name][0])
        assert ours[name][1] == theirs[name][1]


def test_training_keeps_to_its_domains(quiet):
    batches = batches_of(replace(quiet, domains=("phone",)).epoch(0))
    assert sorted(ids(batches)) == [f"train-{number:02d}" for number in range(1, 12, 2)]


def test_training_keeps_to_its_limits(quiet, pipeline):
    # A speed of 0.8 stretches the short ones beyond the limit, which is of what was said.
    speeds = replace(quiet.augmentation, speeds=(0.8, 1.0))
    batching = replace(pipeline.batching, max_seconds=0.6)
    batches = batches_of(replace(quiet, augmentation=speeds, batching=batching).epoch(0))
    assert sorted(ids(batches)) == [f"train-{number:02d}" for number in range(0, 12, 2)]


@pytest.fixture(scope="module")
def evaluation(tiny_data, pipeline):
    @functools.cache
    def make(**settings):
        return batches_of(
            evaluation_batches(
                tiny_data.source("test"),
                tiny_data.durations("test"),
                extractor=pipeline.extractor,
                **settings,
            )
        )

    return make


@pytest.mark.parametrize("seconds", [0.1, 1.3, 120.0])
def test_evaluation_sees_every_utterance_once(evaluation, seconds):
    batches = evaluation(batch_seconds=seconds)
    assert sorted(ids(batches)) == [f"test-{number:02d}" for number in range(6)]


def test_evaluation_is_the_same_each_time(evaluation):
    whole = evaluation(batch_seconds=120.0)
    assert_equal_batches(whole, evaluation(batch_seconds=120.0, domains=()))


def test_evaluation_does_not_change_the_audio(evaluation, tiny_data, pipeline):
    batches = evaluation(batch_seconds=120.0)
    source, durations = tiny_data.source("test"), tiny_data.durations("test")
    plain = {e["id"]: e for e in every_example(source, durations, (), 8000).as_numpy_iterator()}
    for batch in batches:
        for number, name in enumerate(batch["id"]):
            example = plain[name]
            samples = np.array([example["num_samples"]])
            features, frames = pipeline.extractor(example["waveform"][None], samples)
            ours = batch["features"][number, : frames.numpy()[0]]
            np.testing.assert_allclose(ours, features[0], atol=1e-4)


def test_evaluation_keeps_to_its_domains(evaluation):
    assert sorted(ids(evaluation(domains=("close",)))) == ["test-00", "test-02", "test-04"]


def test_every_example_is_in_order(tiny_data):
    source, durations = tiny_data.source("train"), tiny_data.durations("train")
    examples = every_example(source, durations, (), 8000).as_numpy_iterator()
    assert [e["id"].decode() for e in examples] == [f"train-{n:02d}" for n in range(12)]
