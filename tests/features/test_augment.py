import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import AugmentConfig
from tfasr.features.augment import add_noise, augment, change_channel, change_speed

SEEDS = [tf.constant([7, number]) for number in range(60)]
NOTHING = AugmentConfig(speed=(1.0, 1.0), gain_db=(0.0, 0.0), dither=0.0)
EVERYTHING = AugmentConfig(noise_share=0.5, tilt_db=6.0)


def tone(cycles, samples):
    """A sine that repeats `cycles` times in `samples`."""
    return np.sin(2 * np.pi * cycles * np.arange(samples) / samples).astype(np.float32)


def decibels(gain):
    return 20 * np.log10(gain)


def power(waveform):
    return np.mean(np.square(waveform))


@pytest.mark.parametrize("samples", [1, 63, 64, 640, 1000, 1024, 4097])
@pytest.mark.parametrize("speed", [0.9, 0.97, 1.0, 1024 / 1001, 1.1])
def test_a_faster_waveform_is_shorter_by_the_speed(samples, speed):
    changed = change_speed(tf.ones([samples]), tf.constant(speed, tf.float32))
    assert abs(len(changed) - samples / speed) <= 0.5 + 1e-3


@pytest.mark.parametrize(("speed", "samples"), [(0.8, 2000), (1.25, 1280), (2.0, 800)])
def test_a_faster_tone_is_higher_by_the_speed(speed, samples):
    changed = change_speed(tone(40, 1600), tf.constant(speed)).numpy()
    # The filter reaches beyond the ends; inside, 32 taps and 512 phases are good to -60 dB.
    inside = slice(50, -50)
    np.testing.assert_allclose(changed[inside], tone(40, samples)[inside], atol=1e-3)


def test_a_tone_keeps_its_loudness_and_phase_where_it_ends_between_blocks():
    samples = 1590
    changed = change_speed(tone(40, samples), tf.constant(1.25)).numpy()
    # The end of a waveform that does not fill its transform rings.
    inside = slice(100, 1150)
    np.testing.assert_allclose(changed[inside], tone(40, 1272)[inside], atol=0.02)


def test_frequencies_that_a_faster_waveform_cannot_hold_are_gone():
    # 700 cycles in 1600 samples would be more than half the rate at twice the speed.
    changed = change_speed(tone(700, 1600), tf.constant(2.0)).numpy()
    # 32 taps stop it by 46 dB; only the filter's ends let through more.
    np.testing.assert_allclose(changed[50:-50], 0, atol=5e-3)


def test_speed_1_leaves_a_waveform(noise):
    waveform = noise(1000)
    np.testing.assert_allclose(change_speed(waveform, tf.constant(1.0)), waveform, atol=1e-4)


def gain_at(place, seed, tilt_db):
    """Gain in dB at a place between the nine knots 0 to 8 of the response."""
    cycles = round(place * 64)
    out = change_channel(tone(cycles, 1024), seed, tilt_db).numpy()
    return decibels(np.sqrt(power(out) / 0.5))


def test_a_channels_gain_stays_within_its_tilt():
    gains = [gain_at(knot, seed, 6.0) for seed in SEEDS[:12] for knot in range(1, 8)]
    assert -6 <= min(gains) < -5
    assert 5 < max(gains) <= 6


def test_a_channels_gain_runs_straight_from_knot_to_knot():
    knots = [gain_at(place, SEEDS[0], 6.0) for place in (2, 2.25, 2.5, 3)]
    np.testing.assert_allclose(knots[1], 0.75 * knots[0] + 0.25 * knots[3], atol=1e-3)
    np.testing.assert_allclose(knots[2], 0.5 * knots[0] + 0.5 * knots[3], atol=1e-3)


def test_a_channel_delays_nothing():
    out = change_channel(tone(96, 1024), SEEDS[0], 6.0).numpy()
    np.testing.assert_allclose(out / np.sqrt(2 * power(out)), tone(96, 1024), atol=1e-3)


def test_a_channel_keeps_the_length(noise):
    assert len(change_channel(noise(1001), SEEDS[0], 6.0)) == 1001


@pytest.mark.parametrize("snr_db", [-5.0, 10.0, 40.0])
def test_noise_has_the_power_that_was_asked_for(noise, snr_db):
    waveform = 0.1 * noise(1001)
    added = add_noise(waveform, SEEDS[0], tf.constant(snr_db)) - waveform
    measured = 10 * np.log10(power(waveform) / power(added))
    np.testing.assert_allclose(measured, snr_db, atol=0.01)


def test_noise_lies_between_white_and_brown():
    waveform = tone(100, 4096)
    slopes = []
    for seed in SEEDS[:40]:
        added = add_noise(waveform, seed, tf.constant(10.0)) - waveform
        spectrum = np.abs(np.fft.rfft(added))[16:1024]
        slopes.append(np.polyfit(np.log(np.arange(16, 1024)), np.log(spectrum), 1)[0])
    # A slope fitted to a thousand random amplitudes is good to a twentieth.
    assert -1.1 < min(slopes) < -0.9
    assert -0.1 < max(slopes) < 0.1


def test_silence_is_given_no_noise():
    out = add_noise(tf.zeros([1000]), SEEDS[0], tf.constant(10.0))
    np.testing.assert_array_equal(out, np.zeros(1000))


def test_nothing_asked_for_leaves_a_waveform(noise):
    np.testing.assert_array_equal(augment(noise(1000), SEEDS[0], NOTHING), noise(1000))


def test_dither_has_its_deviation_on_the_16_bit_scale():
    config = AugmentConfig(speed=(1.0, 1.0), gain_db=(0.0, 0.0), dither=2.0)
    out = augment(tf.zeros([40_000]), SEEDS[0], config).numpy() * 32768
    # Five standard errors over 40,000 draws.
    np.testing.assert_allclose(out.mean(), 0, atol=5 * 2 / 200)
    np.testing.assert_allclose(out.std(), 2, atol=5 * 2 / 200 / 2**0.5)


def test_gains_fill_their_range():
    config = AugmentConfig(speed=(1.0, 1.0), gain_db=(-6.0, 3.0), dither=0.0)
    gains = [decibels(augment(tf.ones([4]), seed, config).numpy()) for seed in SEEDS]
    assert np.ptp(gains, axis=1).max() < 1e-5
    assert -6 <= np.min(gains) < -5.5
    assert 2.5 < np.max(gains) <= 3


def test_speeds_fill_their_range():
    config = AugmentConfig(speed=(0.9, 1.1), gain_db=(0.0, 0.0), dither=0.0)
    lengths = [len(augment(tf.ones([3000]), seed, config)) for seed in SEEDS]
    assert 3000 / 1.1 - 1 <= min(lengths) < 2760
    assert 3300 < max(lengths) <= 3000 / 0.9 + 1


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 11, 49), (1.0, 60, 60)])
def test_the_share_of_utterances_is_given_noise(share, least, most):
    config = AugmentConfig(speed=(1.0, 1.0), gain_db=(0.0, 0.0), dither=0.0, noise_share=share)
    waveform = tf.constant(tone(10, 200))
    noisy = sum(bool((augment(waveform, s, config) != waveform).numpy().any()) for s in SEEDS)
    # Five standard deviations of 60 draws.
    assert least <= noisy <= most


def test_the_seed_alone_decides(noise):
    one, again, other = (augment(noise(1000), SEEDS[i], EVERYTHING).numpy() for i in (2, 2, 3))
    np.testing.assert_array_equal(one, again)
    assert len(one) != len(other)


def test_a_dataset_augments_as_eager_mode_does(noise):
    waveform = noise(1000)
    dataset = tf.data.Dataset.from_tensor_slices(tf.stack(SEEDS[:2]))
    dataset = dataset.map(lambda seed: augment(waveform, seed, EVERYTHING))
    for seed, augmented in zip(SEEDS, dataset, strict=False):
        np.testing.assert_allclose(augmented, augment(waveform, seed, EVERYTHING), atol=1e-5)


def test_an_empty_waveform_stays_empty():
    assert len(augment(tf.zeros([0]), SEEDS[0], EVERYTHING)) == 0
