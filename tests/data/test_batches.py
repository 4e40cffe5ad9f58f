import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.data import BatchConfig
from tfasr.configs.features import FbankConfig
from tfasr.data.batches import (
    MODEL_INPUTS,
    Buckets,
    batch_candidates,
    extract_features,
    load_batches,
    make_buckets,
    model_inputs,
    pad_to_edges,
    shuffle_examples,
    within_limits,
)
from tfasr.data.shards import Record, write_shard
from tfasr.data.sources import ShardSource
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics

RATE = 1000
FBANK = FbankConfig(sample_rate=RATE, num_mels=4)
EXTRACTOR = FeatureExtractor(FBANK, FeatureStatistics((1.0,) * 4, (2.0,) * 4))


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
def source(tmp_path):
    """Of 100, 200 up to 600 samples, every other one in the domain "phone"."""
    rows = [record(n, 100 * (n + 1), ("close", "phone")[n % 2]) for n in range(6)]
    write_shard(tmp_path / "a.tfrecord", rows)
    return ShardSource([tmp_path / "a.tfrecord"])


def candidates_of(source, **changes):
    settings = {"min_seconds": 0.0, "max_seconds": 9.0, "sample_rate": RATE, **changes}
    return within_limits(source.candidates(tf.constant(source.items())), **settings)


def numbers(candidates):
    return [int(candidate["number"]) for candidate in candidates.as_numpy_iterator()]


def config(**changes):
    return BatchConfig(**{"batch_seconds": 10.0, "num_buckets": 2, **changes})


def test_buckets_need_the_least_padding():
    # Classes {1, 2, 3} and {8} pad by 2 + 1 + 0 + 0 s; {1, 2} and {3, 8} by 1 + 5.
    assert make_buckets([3.0, 1.0, 8.0, 2.0], config()) == Buckets((3.0, 8.0), (3, 1))
    # {1} and {7, 8, 9}: 2 + 1; {1, 7} and {8, 9}: 6 + 1.
    assert make_buckets([7.0, 1.0, 8.0, 9.0], config()) == Buckets((1.0, 9.0), (10, 1))


def test_three_buckets_need_the_least_padding_of_all_divisions():
    durations = np.random.Generator(np.random.Philox(3)).uniform(1, 9, 12).round(2)

    def padding(edges):
        edges = np.array([*edges, durations.max()])
        return (edges[np.searchsorted(edges, durations)] - durations).sum()

    best = min(padding(sorted(pair)) for pair in np.stack(np.meshgrid(durations, durations), -1)
               .reshape(-1, 2))  # fmt: skip
    edges = make_buckets(list(durations), config(num_buckets=3)).edges
    assert padding(edges[:-1]) == pytest.approx(best)


def test_equal_durations_share_one_bucket():
    assert make_buckets([2.0] * 9, config(num_buckets=5)) == Buckets((2.0,), (5,))


def test_no_more_buckets_are_made_than_there_are_durations():
    assert make_buckets([1.0, 2.0], config(num_buckets=9)).edges == (1.0, 2.0)


def test_every_speed_is_counted_in():
    buckets = make_buckets([1.0, 4.0], config(num_buckets=4), speeds=(0.5, 1.0))
    assert buckets == Buckets((1.0, 2.0, 4.0, 8.0), (10, 5, 2, 1))


def test_padding_of_utterances_as_long_as_librispeech_is_under_a_tenth():
    # 28,539 utterances of 1.4 to 24.5 s, mean 12.7 s, most of them near 15 s.
    draw = np.random.Generator(np.random.Philox(0))
    long, short = draw.normal(14.5, 1.2, 28539), draw.uniform(1.5, 14.0, 28539)
    seconds = np.clip(np.where(draw.random(28539) < 0.7, long, short), 1.4, 24.5)
    limits = BatchConfig(max_seconds=25.0)
    edges = np.array(make_buckets(list(seconds), limits, (0.9, 1.0, 1.1)).edges)
    heard = np.concatenate([seconds / speed for speed in (0.9, 1.0, 1.1)])
    padded = edges[np.searchsorted(edges, heard)]
    assert 1 - heard.sum() / padded.sum() < 0.05


def test_a_batch_has_an_upper_limit():
    assert make_buckets([0.1], config(max_utterances=7)).batch_sizes == (7,)


def test_an_utterance_longer_than_a_batch_is_a_batch():
    assert make_buckets([15.0], config()).batch_sizes == (1,)


def test_inadmissible_durations_do_not_count():
    limits = config(min_seconds=1.0, max_seconds=4.0)
    assert make_buckets([0.5, 4.0, 9.0], limits).edges == (4.0,)
    assert make_buckets([0.5, 1.0, 4.0, 9.0], limits).edges == (1.0, 4.0)


def test_durations_of_which_none_is_admissible_are_refused():
    with pytest.raises(ValueError, match=r"got none of 2 in \[0\.1, 20\.0\] s"):
        make_buckets([0.05, 30.0], config())


def test_only_the_domains_asked_for_are_kept(source):
    assert numbers(candidates_of(source, domains=["phone"])) == [1, 3, 5]
    assert numbers(candidates_of(source, domains=["phone", "close"])) == [0, 1, 2, 3, 4, 5]
    assert numbers(candidates_of(source, domains=["car"])) == []


def test_both_limits_of_the_duration_are_admissible(source):
    assert numbers(candidates_of(source, min_seconds=0.2, max_seconds=0.4)) == [1, 2, 3]


def test_the_seed_decides_the_order():
    def order(seed):
        data = tf.data.Dataset.range(20)
        return list(shuffle_examples(data, buffer=20, seed=seed).as_numpy_iterator())

    assert order((1, 2)) == order(tf.constant([1, 2]))
    assert order((1, 2)) != order((2, 2))
    assert sorted(order((1, 2))) == list(range(20))


def batches_of(source, buckets):
    keys = batch_candidates(candidates_of(source), buckets=buckets, sample_rate=RATE)
    return load_batches(keys, source.load)


def test_batches_are_of_like_length_and_full_where_they_can_be(source):
    batches = batches_of(source, Buckets((0.3, 0.6), (2, 3))).as_numpy_iterator()
    assert [batch["number"].tolist() for batch in batches] == [[0, 1], [3, 4, 5], [2]]


def test_an_utterance_that_gained_a_sample_by_rounding_keeps_its_bucket(tmp_path):
    write_shard(tmp_path / "a.tfrecord", [record(0, 301), record(1, 302)])
    batches = batches_of(ShardSource([tmp_path / "a.tfrecord"]), Buckets((0.3, 0.6), (1, 2)))
    assert [batch["number"].tolist() for batch in batches.as_numpy_iterator()] == [[0], [1]]


def test_a_batch_is_padded_with_zeros(source):
    (batch,) = batches_of(source, Buckets((0.6,), (6,))).as_numpy_iterator()
    assert batch["waveform"].shape == (6, 600)
    assert batch["tokens"].shape == (6, 5)
    for number in range(6):
        samples = 100 * (number + 1)
        assert (batch["waveform"][number, :samples] == np.float32((number + 1) / 32768)).all()
        assert not batch["waveform"][number, samples:].any()
        assert batch["tokens"][number].tolist() == [number] * number + [0] * (5 - number)
    assert batch["num_samples"].tolist() == [100, 200, 300, 400, 500, 600]
    assert batch["num_tokens"].tolist() == [0, 1, 2, 3, 4, 5]


def test_an_utterance_beyond_the_last_edge_is_not_lost(source):
    batches = batches_of(source, Buckets((0.5,), (5,))).as_numpy_iterator()
    assert sorted(n for batch in batches for n in batch["number"]) == [0, 1, 2, 3, 4, 5]


def test_many_batches_come_in_the_order_of_their_keys():
    keys = tf.data.Dataset.range(40).batch(2)
    loaded = load_batches(keys, lambda inner: inner.map(lambda key: {"key": key}))
    assert [k for batch in loaded.as_numpy_iterator() for k in batch["key"]] == list(range(40))


def test_batches_are_padded_to_few_shapes(source):
    buckets = Buckets((0.25, 0.4), (2, 2))
    batches = pad_to_edges(batches_of(source, buckets), buckets=buckets, sample_rate=RATE)
    shapes = [(batch["waveform"].shape, batch["tokens"].shape) for batch in batches]
    # Numbers 4 and 5 are longer than the last edge: batches of their own, as long as they are.
    assert shapes == [
        ((2, 251), (2, 16)),
        ((2, 401), (2, 16)),
        ((1, 500), (1, 16)),
        ((1, 600), (1, 16)),
    ]


def test_features_in_a_dataset_are_those_of_the_extractor(source):
    batches = batches_of(source, Buckets((0.3, 0.6), (3, 3)))
    batch = next(extract_features(batches, extractor=EXTRACTOR).as_numpy_iterator())
    waveforms = np.zeros((3, 300), np.float32)
    for number in range(3):
        waveforms[number, : 100 * (number + 1)] = (number + 1) / 32768
    features, frames = EXTRACTOR(waveforms, tf.constant([100, 200, 300]))
    np.testing.assert_allclose(batch["features"], features, atol=1e-5)
    assert batch["num_frames"].tolist() == frames.numpy().tolist() == [8, 18, 28]
    assert "waveform" not in batch
    assert "num_samples" not in batch


def test_a_model_is_given_numbers_only(source):
    batches = batches_of(source, Buckets((0.6,), (6,)))
    batch = next(iter(model_inputs(extract_features(batches, extractor=EXTRACTOR))))
    assert set(batch) == set(MODEL_INPUTS)
    assert all(value.dtype in (tf.float32, tf.int32) for value in batch.values())
