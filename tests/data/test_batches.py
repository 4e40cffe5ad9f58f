import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, FbankConfig, SpecAugmentConfig
from tfasr.configs.seeds import counted_seed
from tfasr.data.batches import (
    MODEL_INPUTS,
    Buckets,
    augment_examples,
    batch_by_length,
    extract_features,
    make_buckets,
    mask_features,
    model_inputs,
    read_examples,
    shuffle_examples,
    shuffle_shards,
)
from tfasr.data.shards import Record, write_shard
from tfasr.features.augment import augment
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.features.spec_augment import spec_augment

RATE = 1000
FBANK = FbankConfig(sample_rate=RATE, num_mels=4)
EXTRACTOR = FeatureExtractor(FBANK, FeatureStatistics((1.0,) * 4, (2.0,) * 4))
AUGMENT = AugmentConfig(speed=(0.8, 1.25), noise_share=0.5, tilt_db=3.0)


def record(number, samples, domain="close"):
    """Its samples are number + 1, its tokens as many as its number."""
    return Record(
        utterance_id=f"u{number}",
        number=number,
        samples=np.full(samples, number + 1, np.int16),
        tokens=[number] * number,
        text="",
        speaker="",
        domain=domain,
    )


@pytest.fixture
def shard(tmp_path):
    """Of 100, 200 up to 600 samples, every other one in the domain "phone"."""
    rows = [record(n, 100 * (n + 1), ("close", "phone")[n % 2]) for n in range(6)]
    write_shard(tmp_path / "a.tfrecord", rows)
    return tmp_path / "a.tfrecord"


def examples_of(shard, **changes):
    settings = {"min_seconds": 0.0, "max_seconds": 9.0, "sample_rate": RATE, **changes}
    return read_examples([shard], **settings)


def numbers(examples):
    return [int(example["number"]) for example in examples.as_numpy_iterator()]


def config(**changes):
    return BatchConfig(**{"batch_seconds": 10.0, "num_buckets": 2, **changes})


def test_buckets_hold_equally_many_utterances_and_as_many_as_fit_in_a_batch():
    # Sorted 1, 2, 3, 8: half are at most 2 s, all at most 8 s; 10 s hold 5 and 1 of them.
    assert make_buckets([3.0, 1.0, 8.0, 2.0], config()) == Buckets((3.0, 8.0), (3, 1))
    assert make_buckets([1.0, 2.0, 8.0], config()) == Buckets((2.0, 8.0), (5, 1))


def test_equal_durations_share_one_bucket():
    assert make_buckets([2.0] * 9, config(num_buckets=5)) == Buckets((2.0,), (5,))


def test_slower_playback_widens_the_buckets():
    assert make_buckets([1.0, 2.0, 8.0], config(), slowest=0.5) == Buckets((4.0, 16.0), (2, 1))


def test_a_batch_has_an_upper_limit():
    assert make_buckets([0.1], config(max_utterances=7)).batch_sizes == (7,)


def test_an_utterance_longer_than_a_batch_is_a_batch():
    assert make_buckets([15.0], config()).batch_sizes == (1,)


def test_inadmissible_durations_do_not_count():
    limits = config(min_seconds=1.0, max_seconds=4.0)
    assert make_buckets([0.5, 1.0, 4.0, 9.0], limits).edges == (4.0,)
    assert make_buckets([0.5, 1.0, 2.0, 4.0, 9.0], limits).edges == (2.0, 4.0)


def test_durations_of_which_none_is_admissible_are_refused():
    with pytest.raises(ValueError, match=r"got none of 2 in \[0\.1, 20\.0\] s"):
        make_buckets([0.05, 30.0], config())


def test_shards_are_read_in_order(shard, tmp_path):
    write_shard(tmp_path / "b.tfrecord", [record(9, 10)])
    settings = {"min_seconds": 0.0, "max_seconds": 9.0, "sample_rate": RATE}
    assert numbers(read_examples([tmp_path / "b.tfrecord", shard], **settings)) == [9, *range(6)]


def test_only_the_domains_asked_for_are_read(shard):
    assert numbers(examples_of(shard, domains=["phone"])) == [1, 3, 5]
    assert numbers(examples_of(shard, domains=["phone", "close"])) == [0, 1, 2, 3, 4, 5]
    assert numbers(examples_of(shard, domains=["car"])) == []


def test_both_limits_of_the_duration_are_admissible(shard):
    assert numbers(examples_of(shard, min_seconds=0.2, max_seconds=0.4)) == [1, 2, 3]


def test_shards_are_in_another_order_each_epoch():
    orders = [tuple(shuffle_shards(list(range(20)), seed=0, epoch=e)) for e in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(20))
    assert orders[0] != tuple(shuffle_shards(list(range(20)), seed=1, epoch=0))


def test_examples_are_in_another_order_each_epoch():
    def order(seed, epoch):
        data = tf.data.Dataset.range(20)
        return list(shuffle_examples(data, buffer=20, seed=seed, epoch=epoch).as_numpy_iterator())

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert sorted(order(0, 1)) == list(range(20))


def augmented(shard, **changes):
    settings = {"config": AUGMENT, "seed": 3, "epoch": 2, **changes}
    return list(augment_examples(examples_of(shard), **settings).as_numpy_iterator())


def test_augmentation_in_a_dataset_is_that_of_an_utterance_alone(shard):
    base = tf.constant(counted_seed(3, "augment", 2), tf.int32)
    for number, example in enumerate(augmented(shard)):
        waveform = tf.fill([100 * (number + 1)], np.float32((number + 1) / 32768))
        seed = tf.random.experimental.stateless_fold_in(base, number)
        expected = augment(waveform, seed, AUGMENT).numpy()
        # Fused multiplications differ in the last bit between eager and graph mode.
        np.testing.assert_allclose(example["waveform"], expected, rtol=1e-4, atol=1e-8)
        assert example["num_samples"] == len(expected)


def test_augmentation_differs_between_epochs_and_seeds(shard):
    again, epoch, seed = (augmented(shard, **c) for c in ({}, {"epoch": 3}, {"seed": 4}))
    for number, example in enumerate(augmented(shard)):
        np.testing.assert_array_equal(example["waveform"], again[number]["waveform"])
        assert len(example["waveform"]) != len(epoch[number]["waveform"])
        assert len(example["waveform"]) != len(seed[number]["waveform"])


def test_augmentation_of_an_utterance_does_not_depend_on_its_neighbours(shard):
    alone = augment_examples(examples_of(shard).skip(4), config=AUGMENT, seed=3, epoch=2)
    ours, theirs = next(alone.as_numpy_iterator()), augmented(shard)[4]
    np.testing.assert_array_equal(ours["waveform"], theirs["waveform"])


def batches_of(shard, buckets):
    data = batch_by_length(examples_of(shard), buckets=buckets, sample_rate=RATE)
    return list(data.as_numpy_iterator())


def test_batches_are_of_like_length_and_full_where_they_can_be(shard):
    batches = batches_of(shard, Buckets((0.3, 0.6), (2, 3)))
    assert [batch["number"].tolist() for batch in batches] == [[0, 1], [3, 4, 5], [2]]


def test_a_batch_is_padded_with_zeros(shard):
    (batch,) = batches_of(shard, Buckets((0.6,), (6,)))
    assert batch["waveform"].shape == (6, 600)
    assert batch["tokens"].shape == (6, 5)
    for number in range(6):
        samples = 100 * (number + 1)
        assert (batch["waveform"][number, :samples] == np.float32((number + 1) / 32768)).all()
        assert not batch["waveform"][number, samples:].any()
        assert batch["tokens"][number].tolist() == [number] * number + [0] * (5 - number)
    assert batch["num_samples"].tolist() == [100, 200, 300, 400, 500, 600]
    assert batch["num_tokens"].tolist() == [0, 1, 2, 3, 4, 5]


def test_an_utterance_beyond_the_last_edge_is_not_lost(shard):
    batches = batches_of(shard, Buckets((0.5,), (5,)))
    assert sorted(n for batch in batches for n in batch["number"]) == [0, 1, 2, 3, 4, 5]


def features_of(shard):
    batches = batch_by_length(
        examples_of(shard), buckets=Buckets((0.3, 0.6), (3, 3)), sample_rate=RATE
    )
    return extract_features(batches, extractor=EXTRACTOR)


def test_features_in_a_dataset_are_those_of_the_extractor(shard):
    batch = next(features_of(shard).as_numpy_iterator())
    waveforms = np.zeros((3, 300), np.float32)
    for number in range(3):
        waveforms[number, : 100 * (number + 1)] = (number + 1) / 32768
    features, frames = EXTRACTOR(waveforms, tf.constant([100, 200, 300]))
    np.testing.assert_allclose(batch["features"], features, atol=1e-5)
    assert batch["num_frames"].tolist() == frames.numpy().tolist() == [8, 18, 28]
    assert "waveform" not in batch
    assert "num_samples" not in batch


def test_masks_in_a_dataset_are_counted_by_the_first_utterance(shard):
    masking = SpecAugmentConfig(frequency_width=2, time_width=9)
    masked = mask_features(features_of(shard), config=masking, seed=3, epoch=2)
    base = tf.constant(counted_seed(3, "spec_augment", 2), tf.int32)
    for plain, batch in zip(features_of(shard), masked, strict=True):
        seed = tf.random.experimental.stateless_fold_in(base, tf.cast(plain["number"][0], tf.int32))
        expected = spec_augment(plain["features"], plain["num_frames"], seed, masking)
        np.testing.assert_array_equal(batch["features"], expected)
        assert (batch["features"].numpy() == 0).sum() > (plain["features"].numpy() == 0).sum()


def test_a_model_is_given_numbers_only(shard):
    batch = next(iter(model_inputs(features_of(shard))))
    assert set(batch) == set(MODEL_INPUTS)
    assert all(value.dtype in (tf.float32, tf.int32) for value in batch.values())
