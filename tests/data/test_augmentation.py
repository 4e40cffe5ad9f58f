import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.data.augmentation import (
    add_noises,
    augment_examples,
    change_channels,
    change_gains,
    compand_examples,
    dither_examples,
    drawn_speed_samples,
    limit_bands,
    mask_features,
    perturb_speed,
    reverberate_examples,
)
from tfasr.data.banks import Banks, RecordingBank
from tfasr.features.augment import change_gain, change_speed, compand

RATE = 8000
SEED = (11, 22)
SPEEDS = (0.9, 1.0, 1.1)
NOTHING = {"speeds": (1.0,), "gain_db": (0.0, 0.0), "dither": 0.0}
ROOMS = ([500, -300, 200], [900, 100])
BANK = RecordingBank.of([np.array(room, np.int16) for room in ROOMS])
# Each function and the settings of `augment_examples` that ask for the same.
FUNCTIONS = {
    "speed": (lambda e, s: perturb_speed(e, speeds=SPEEDS, seed=s), {"speeds": SPEEDS}),
    "made rooms": (
        lambda e, s: reverberate_examples(
            e, share=0.5, seconds=(0.01, 0.02), bank=None, sample_rate=RATE, seed=s
        ),
        {"reverb_share": 0.5, "reverb_seconds": (0.01, 0.02)},
    ),
    "made noise": (
        lambda e, s: add_noises(e, share=0.5, snr_db=(0.0, 20.0), bank=None, seed=s),
        {"noise_share": 0.5, "noise_snr_db": (0.0, 20.0)},
    ),
    "channel": (lambda e, s: change_channels(e, tilt_db=6.0, seed=s), {"tilt_db": 6.0}),
    "band": (
        lambda e, s: limit_bands(
            e, share=0.5, low_hz=(100, 400), high_hz=(2000, 3000), sample_rate=RATE, seed=s
        ),
        {"band_share": 0.5, "band_low_hz": (100, 400), "band_high_hz": (2000, 3000)},
    ),
    "codec": (lambda e, s: compand_examples(e, share=0.5, seed=s), {"codec_share": 0.5}),
    "gain": (
        lambda e, s: change_gains(e, gain_db=(-6.0, 3.0), seed=s),
        {"gain_db": (-6.0, 3.0)},
    ),
    "dither": (lambda e, s: dither_examples(e, deviation=50.0, seed=s), {"dither": 50.0}),
}


@pytest.fixture
def examples(noise):
    """Makes examples of other lengths, with such numbers."""

    def make(numbers):
        waveforms = [0.1 * noise(200 + number % 7, seed=number % 100) for number in numbers]
        return tf.data.Dataset.from_tensor_slices(
            {
                "waveform": tf.ragged.constant(waveforms, tf.float32),
                "num_samples": tf.constant([len(waveform) for waveform in waveforms]),
                "number": tf.constant(list(numbers), tf.int64),
                "id": tf.constant([str(number) for number in numbers]),
            }
        )

    return make


def by_number(dataset):
    return {int(example["number"]): example["waveform"] for example in dataset.as_numpy_iterator()}


def augmented(dataset, seed=SEED, banks=None, **settings):
    config = AugmentConfig(**{**NOTHING, **settings})
    made = augment_examples(
        dataset, config=config, seed=seed, banks=banks or Banks(), sample_rate=RATE
    )
    return by_number(made)


def everything():
    return {name: value for _, settings in FUNCTIONS.values() for name, value in settings.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_what_augmentation_does_when_asked_for_that_alone(examples, name):
    function, settings = FUNCTIONS[name]
    alone, expected = by_number(function(examples(range(6)), SEED)), by_number(examples(range(6)))
    for number, waveform in augmented(examples(range(6)), **settings).items():
        np.testing.assert_array_equal(alone[number], waveform)
    assert any(len(alone[n]) != len(expected[n]) or (alone[n] != expected[n]).any() for n in alone)


def test_augmentation_is_the_functions_one_after_the_other(examples):
    chained = examples(range(12))
    for function, _ in FUNCTIONS.values():
        chained = function(chained, SEED)
    chained = by_number(chained)
    for number, waveform in augmented(examples(range(12)), **everything()).items():
        np.testing.assert_allclose(chained[number], waveform, atol=1e-5)


def test_order_and_neighbours_change_nothing(examples):
    settings = {"speeds": SPEEDS, "noise_share": 0.5, "dither": 1.0}
    first = augmented(examples([3, 1, 2]), **settings)
    other = augmented(examples([2, 8, 3]), **settings)
    for number in (2, 3):
        np.testing.assert_array_equal(first[number], other[number])


def test_a_seed_repeats_its_draws_and_another_has_its_own(examples):
    one, again, other = (
        augmented(examples([1]), seed, dither=1.0, gain_db=(-6.0, 6.0))[1]
        for seed in (SEED, tf.constant(SEED), (11, 23))
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


def test_utterances_and_purposes_are_given_draws_of_their_own(examples):
    numbers = [0, 1, 2, 2**32, 2**32 + 1]
    noises = by_number(dither_examples(examples(numbers), deviation=1e4, seed=SEED))
    noises = [noises[n] - waveform for n, waveform in by_number(examples(numbers)).items()]
    correlation = np.corrcoef([waveform[:200] for waveform in noises]) - np.eye(5)
    # Five standard errors of 200 draws.
    assert np.abs(correlation).max() < 5 / 200**0.5


def test_other_keys_pass_and_lengths_follow(examples):
    made = perturb_speed(examples([4, 7]), speeds=(0.5,), seed=SEED)
    rows = list(made.as_numpy_iterator())
    assert [row["id"] for row in rows] == [b"4", b"7"]
    assert [int(row["num_samples"]) for row in rows] == [408, 400]
    assert [len(row["waveform"]) for row in rows] == [408, 400]
    assert made.element_spec["num_samples"].dtype == tf.int32


def test_nothing_asked_for_leaves_a_dataset(examples):
    dataset = examples([1])
    made = augment_examples(
        dataset, config=AugmentConfig(**NOTHING), seed=SEED, banks=Banks(), sample_rate=RATE
    )
    assert made is dataset


def test_one_of_the_speeds_is_drawn_each_as_likely(examples):
    before = by_number(examples(range(90)))
    counts = dict.fromkeys(SPEEDS, 0)
    for number, waveform in augmented(examples(range(90)), speeds=SPEEDS).items():
        changed = {s: np.asarray(change_speed(before[number], s)) for s in SPEEDS}
        speed = next(s for s in SPEEDS if len(changed[s]) == len(waveform))
        np.testing.assert_allclose(waveform, changed[speed], atol=1e-6)
        counts[speed] += 1
    # Five standard deviations of 90 draws.
    assert all(8 <= count <= 52 for count in counts.values())


def test_the_length_is_known_before_the_waveform(examples):
    expected = {n: len(waveform) for n, waveform in by_number(examples(range(40))).items()}
    for number, waveform in augmented(examples(range(40)), speeds=SPEEDS).items():
        samples = drawn_speed_samples(
            tf.constant(number, tf.int64), expected[number], speeds=SPEEDS, seed=SEED
        )
        assert int(samples) == len(waveform)


def test_lengths_are_known_in_a_dataset_with_a_seed_that_is_fed(examples):
    dataset = examples(range(40))

    @tf.function
    def total(seed):
        lengths = dataset.map(
            lambda e: drawn_speed_samples(e["number"], e["num_samples"], speeds=SPEEDS, seed=seed)
        )
        return lengths.reduce(0, lambda one, other: one + other)

    waveforms = augmented(examples(range(40)), speeds=SPEEDS).values()
    assert int(total(tf.constant(SEED))) == sum(len(waveform) for waveform in waveforms)


def test_gains_fill_their_range(examples):
    before = by_number(examples(range(60)))
    gains = []
    for number, waveform in augmented(examples(range(60)), gain_db=(-6.0, 3.0)).items():
        ratio = waveform / before[number]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
        gains.append(20 * np.log10(ratio[0]))
    assert -6 <= min(gains) < -5.5
    assert 2.5 < max(gains) <= 3


def test_signal_to_noise_ratios_fill_their_range(examples):
    before = by_number(examples(range(60)))
    ratios = []
    settings = {"noise_share": 1.0, "noise_snr_db": (5.0, 20.0)}
    for number, waveform in augmented(examples(range(60)), **settings).items():
        added = waveform - before[number]
        ratios.append(10 * np.log10(np.mean(before[number] ** 2) / np.mean(added**2)))
    assert 4.99 <= min(ratios) < 6
    assert 19 < max(ratios) <= 20.01


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 11, 49), (1.0, 60, 60)])
def test_a_share_of_the_utterances_is_changed(examples, share, least, most):
    before = by_number(examples(range(60)))
    made = by_number(compand_examples(examples(range(60)), share=share, seed=SEED))
    changed = [number for number in before if (made[number] != before[number]).any()]
    # Five standard deviations of 60 draws.
    assert least <= len(changed) <= most
    for number in changed:
        np.testing.assert_allclose(made[number], compand(before[number]), atol=1e-6)


def test_noise_is_drawn_from_its_bank(examples):
    before = by_number(examples(range(20)))
    settings = {"noise_share": 1.0, "noise_snr_db": (0.0, 0.0)}
    made = augmented(examples(range(20)), banks=Banks(noise=BANK), **settings)
    for number, waveform in made.items():
        added = waveform - before[number]
        scaled = added / added[np.argmax(np.abs(added))]
        assert any(
            np.allclose(scaled, np.resize(recording, len(added)), atol=1e-3)
            for recording in ([1, -0.6, 0.4], [1, 1 / 9])
        )


def test_rooms_are_drawn_from_their_bank(examples):
    before = by_number(examples(range(20)))
    made = augmented(examples(range(20)), banks=Banks(rooms=BANK), reverb_share=1.0)
    for number, waveform in made.items():
        echoes = [np.convolve(before[number], room)[: len(waveform)] for room in ROOMS]
        # Alike but for their power, to a thousandth.
        assert max(np.corrcoef(waveform, echo)[0, 1] for echo in echoes) > 0.999


def test_a_gain_comes_after_the_codec(examples):
    made = augmented(examples([1]), codec_share=1.0, gain_db=(6.0, 6.0))[1]
    expected = change_gain(compand(by_number(examples([1]))[1]), 6.0)
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_an_utterance_without_samples_is_no_obstacle():
    empty = {
        "waveform": tf.zeros([2, 0]),
        "num_samples": tf.constant([0, 0]),
        "number": tf.constant([0, 1], tf.int64),
    }
    dataset = tf.data.Dataset.from_tensor_slices(empty)
    shares = {name: 1.0 for name in everything() if name.endswith("share")}
    made = augmented(dataset, **{**everything(), **shares})
    assert [len(waveform) for waveform in made.values()] == [0, 0]


@pytest.fixture
def batch(noise):
    """Three utterances of 20, 15 and 18 frames."""
    real = np.arange(20) < np.array([[20], [15], [18]])
    return {
        "features": tf.constant(noise(3, 20, 6) * real[:, :, None]),
        "num_frames": tf.constant([20, 15, 18]),
        "number": tf.constant([7, 2**40, 9], tf.int64),
        "id": tf.constant(["a", "b", "c"]),
    }


def masked(*batches, seed=SEED, **settings):
    """The batches with masks, as one dataset, for its functions take a second to trace."""
    config = SpecAugmentConfig(**{"frequency_width": 3, "time_width": 6, **settings})
    spec = {key: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for key, v in batches[0].items()}
    dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
    return list(mask_features(dataset, config=config, seed=seed).as_numpy_iterator())


def test_masks_of_an_utterance_do_not_depend_on_its_batch(batch):
    one = {key: value[1:2] for key, value in batch.items()}
    together, alone = masked(batch, one, time_warp=3)
    np.testing.assert_array_equal(together["features"][1], alone["features"][0])
    assert together["id"].tolist() == [b"a", b"b", b"c"]


def test_masks_differ_by_utterance_and_by_seed(batch):
    same = {**batch, "features": tf.ones([3, 20, 6]), "num_frames": tf.fill([3], 20)}
    one, again = (made["features"] for made in masked(same, same))
    [other] = masked(same, seed=(11, 23))
    np.testing.assert_array_equal(one, again)
    assert len(np.unique(np.concatenate([one, other["features"]]), axis=0)) == 6


def test_no_masks_asked_for_leave_a_dataset(batch):
    dataset = tf.data.Dataset.from_tensors(batch)
    config = SpecAugmentConfig(frequency_masks=0, time_masks=0)
    assert mask_features(dataset, config=config, seed=SEED) is dataset
