import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from tfasr.features.augment import (
    add_dither,
    add_noise,
    change_channel,
    change_gain,
    change_speed,
    change_speed_to_one_of,
    coloured_noise,
    compand,
    limit_band,
    made_room,
    repeated,
    reverberate,
    stretched,
)

SEEDS = [tf.constant([7, number], tf.int64) for number in range(60)]
SPEEDS = (0.5, 0.9, 0.97, 1.1, 1.25, 2.0)
# One of each, with settings that change much.
CHANGES = {
    "speed": lambda waveform: change_speed(waveform, 0.9),
    "one of the speeds": lambda waveform: change_speed_to_one_of(
        waveform, (0.9, 1.1), tf.constant(1)
    ),
    "gain": lambda waveform: change_gain(waveform, -6.0),
    "noise": lambda waveform: add_noise(
        waveform, coloured_noise(tf.size(waveform), SEEDS[0]), tf.constant(0.0)
    ),
    "room": lambda waveform: reverberate(waveform, made_room(SEEDS[0], 0.02, 8000)),
    "channel": lambda waveform: change_channel(waveform, SEEDS[0], 6.0),
    "band": lambda waveform: limit_band(waveform, 300.0, 3000.0, 8000),
    "codec": compand,
    "dither": lambda waveform: add_dither(waveform, SEEDS[0], 100.0),
}


def tone(frequency, samples):
    """A sine of so many cycles a sample."""
    return np.sin(2 * np.pi * frequency * np.arange(samples)).astype(np.float32)


def decibels(gain):
    return 20 * np.log10(gain)


def power(waveform):
    return np.mean(np.square(waveform), dtype=np.float64)


@pytest.mark.parametrize(
    ("samples", "speed", "expected"),
    [
        (0, 0.9, 0),
        (9, 0.9, 10),
        (10, 0.9, 12),
        (11, 1.1, 10),
        (12, 1.1, 11),
        (101, 1.01, 100),
        (7, 1.0, 7),
        (5, 2.0, 3),
        # An hour and a half at 96 kHz.
        (500_000_000, 0.99, 505_050_506),
    ],
)
def test_a_length_is_divided_by_the_speed_and_rounded_up(samples, speed, expected):
    assert int(stretched(samples, speed)) == expected


@pytest.mark.parametrize("samples", [1, 2, 15, 63, 640, 1000, 4097])
@pytest.mark.parametrize("speed", [*SPEEDS, 1.0])
def test_a_changed_waveform_is_as_long_as_was_said(samples, speed):
    changed = change_speed(tf.ones([samples]), speed)
    assert len(changed) == int(stretched(samples, speed))


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("frequency", [0.01, 0.1, 0.16])
def test_a_faster_tone_is_higher_by_the_speed(speed, frequency):
    changed = change_speed(tone(frequency, 2000), speed).numpy()
    # The filter reaches beyond the ends; inside it is good to -60 dB.
    expected = tone(frequency * speed, len(changed))
    np.testing.assert_allclose(changed[70:-70], expected[70:-70], atol=1e-3)


@pytest.mark.parametrize(("speed", "frequency"), [(1.25, 0.48), (2.0, 0.31)])
def test_frequencies_that_a_faster_waveform_cannot_hold_are_gone(speed, frequency):
    changed = change_speed(tone(frequency, 2000), speed).numpy()
    # The filter stops them by 46 dB; only its ends let through more.
    np.testing.assert_allclose(changed[70:-70], 0, atol=5e-3)


@pytest.mark.parametrize(("speed", "up", "down"), [(0.9, 10, 9), (1.1, 10, 11), (1.05, 20, 21)])
def test_speech_like_noise_is_resampled_as_scipy_does(noise, speed, up, down):
    low = scipy.signal.firwin(201, 0.7)
    waveform = np.convolve(noise(3000), low, "same").astype(np.float32)
    expected = scipy.signal.resample_poly(waveform, up, down)
    changed = change_speed(waveform, speed).numpy()
    assert len(changed) == len(expected)
    # The two filters differ, near where they begin to stop most.
    np.testing.assert_allclose(changed, expected, atol=0.01)


@pytest.mark.parametrize("speed", SPEEDS)
def test_what_does_not_vibrate_stays(speed):
    changed = change_speed(tf.fill([500], 0.25), speed).numpy()
    np.testing.assert_allclose(changed[70:-70], 0.25, rtol=1e-6)


def test_speed_1_leaves_a_waveform(noise):
    np.testing.assert_array_equal(change_speed(noise(1000), 1.0), noise(1000))


@pytest.mark.parametrize("choice", [0, 1, 2])
def test_the_chosen_speed_is_taken(noise, choice):
    speeds = (0.9, 1.0, 1.1)
    changed = change_speed_to_one_of(noise(100), speeds, tf.constant(choice))
    np.testing.assert_array_equal(changed, change_speed(noise(100), speeds[choice]))


@pytest.mark.parametrize(("gain_db", "factor"), [(20.0, 10.0), (0.0, 1.0), (-6.0206, 0.5)])
def test_a_gain_in_decibels(gain_db, factor):
    gained = change_gain(tf.constant([0.5, -2.0]), tf.constant(gain_db))
    np.testing.assert_allclose(gained, [0.5 * factor, -2 * factor], rtol=1e-5)


@pytest.mark.parametrize("snr_db", [-5.0, 10.0, 40.0])
@pytest.mark.parametrize("length", [10, 1001, 5000])
def test_noise_has_the_power_that_was_asked_for(noise, snr_db, length):
    waveform = 0.1 * noise(1001).astype(np.float64)
    added = add_noise(waveform.astype(np.float32), noise(length, seed=1), snr_db) - waveform
    np.testing.assert_allclose(decibels(power(waveform) / power(added)) / 2, snr_db, atol=0.01)


def test_shorter_noise_is_repeated_and_longer_is_cut():
    three = tf.constant([1.0, 2.0, 3.0])
    assert repeated(three, 7).numpy().tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert repeated(three, 2).numpy().tolist() == [1, 2]


def test_silence_is_given_no_noise(noise):
    np.testing.assert_array_equal(add_noise(tf.zeros([99]), noise(99), 10.0), np.zeros(99))


def test_silent_noise_changes_nothing(noise):
    np.testing.assert_array_equal(add_noise(noise(99), tf.zeros([9]), 10.0), noise(99))


def test_made_noise_lies_between_white_and_brown():
    slopes = []
    bins = np.arange(64, 2048)
    for seed in SEEDS[:40]:
        spectrum = np.abs(np.fft.rfft(coloured_noise(4096, seed)))[bins]
        # The knee lies at 2048 / 200 bins.
        slopes.append(np.polyfit(np.log(bins + 10.24), np.log(spectrum), 1)[0])
    # A slope fitted to two thousand random amplitudes is good to a twentieth.
    assert -1.1 < min(slopes) < -0.9
    assert -0.1 < max(slopes) < 0.1


@pytest.mark.parametrize(("samples", "made"), [(1000, 1024), (1024, 1024), (10**6, 32768)])
def test_made_noise_is_a_power_of_two_long_and_repeats_beyond_two_seconds(samples, made):
    assert len(coloured_noise(samples, SEEDS[0])) == made


@pytest.mark.parametrize("delay", [0, 1, 40])
def test_a_room_without_echo_changes_nothing(noise, delay):
    response = np.eye(1, 50, delay, dtype=np.float32)[0]
    np.testing.assert_allclose(reverberate(noise(1000), response), noise(1000), atol=1e-4)


def test_an_echo_by_hand():
    wet = reverberate(tf.constant([4.0, 0.0, 0.0, 3.0]), tf.constant([0.0, 1.0, 0.5])).numpy()
    # [4, 2, 0, 3], at the power of [4, 0, 0, 3].
    np.testing.assert_allclose(wet, np.array([4, 2, 0, 3]) * np.sqrt(25 / 29), atol=1e-5)


def test_a_room_convolves_keeps_length_power_and_place(noise):
    waveform, response = noise(1000), np.exp(-np.arange(300) / 50) * noise(300, seed=1)
    response[7] = 9
    wet = reverberate(waveform, response.astype(np.float32)).numpy()
    expected = np.convolve(waveform, response)[7:1007]
    expected *= np.sqrt(power(waveform) / power(expected))
    np.testing.assert_allclose(wet, expected, atol=1e-4)


def test_silence_stays_silent_in_a_room():
    wet = reverberate(tf.zeros([100]), made_room(SEEDS[0], 0.1, 8000))
    np.testing.assert_array_equal(wet, np.zeros(100))


@pytest.mark.parametrize("seconds", [0.1, 0.6])
def test_a_made_room_falls_by_60_decibels_in_its_time(seconds):
    room = made_room(SEEDS[0], tf.constant(seconds), 16000).numpy()
    assert len(room) == round(seconds * 16000)
    parts = np.array_split(room[1:], 10)
    fall = np.polyfit(np.arange(10), [decibels(power(part)) / 2 for part in parts], 1)[0]
    # Of ten parts each 6 dB under the last; power of 160 draws is good to half a decibel.
    np.testing.assert_allclose(fall, -6, atol=0.3)


def test_the_direct_path_of_a_made_room_comes_first_and_strongest():
    for seed in SEEDS:
        room = made_room(seed, tf.constant(0.02), 8000).numpy()
        ratio = -decibels(np.sqrt(np.sum(room[1:] ** 2)))
        assert np.argmax(np.abs(room)) == 0
        assert -1e-3 <= ratio <= 10.001


def gain_of(change, frequency):
    """Gain in dB of a tone of so many cycles a sample, away from the ends."""
    inside = slice(512, -512)
    before = tone(frequency, 5120)
    return decibels(power(change(before).numpy()[inside]) / power(before[inside])) / 2


def channel_gain(place, seed):
    """Gain in dB at a place between the nine knots 0 to 8 of the response."""
    return gain_of(lambda waveform: change_channel(waveform, seed, 6.0), place / 16)


def test_a_channels_gain_stays_within_its_tilt():
    gains = [channel_gain(knot, seed) for seed in SEEDS[:12] for knot in range(1, 8)]
    assert -6.001 <= min(gains) < -5
    assert 5 < max(gains) <= 6.001


def test_a_channels_gain_runs_straight_from_knot_to_knot():
    knots = [channel_gain(place, SEEDS[0]) for place in (2, 2.25, 2.5, 3)]
    np.testing.assert_allclose(knots[1], 0.75 * knots[0] + 0.25 * knots[3], atol=1e-3)
    np.testing.assert_allclose(knots[2], 0.5 * knots[0] + 0.5 * knots[3], atol=1e-3)


def test_a_channel_delays_nothing():
    out = change_channel(tone(0.09375, 2048), SEEDS[0], 6.0).numpy()[256:-256]
    np.testing.assert_allclose(
        out / np.sqrt(2 * power(out)), tone(0.09375, 2048)[256:-256], atol=1e-3
    )


@pytest.mark.parametrize("samples", [1, 64, 127, 1001])
def test_filters_keep_the_length(noise, samples):
    assert len(change_channel(noise(samples), SEEDS[0], 6.0)) == samples
    assert len(limit_band(noise(samples), 300.0, 3000.0, 16000)) == samples


@pytest.mark.parametrize(
    ("hertz", "gain_db"), [(250, -48.2), (500, -3.01), (1500, 0.0), (3000, -3.01), (6000, -48.2)]
)
def test_a_band_ends_at_half_power_and_falls_by_48_decibels_an_octave(hertz, gain_db):
    gain = gain_of(lambda waveform: limit_band(waveform, 500.0, 3000.0, 16000), hertz / 16000)
    np.testing.assert_allclose(gain, gain_db, atol=0.1)


def test_a_band_beyond_what_a_waveform_holds_changes_nothing(noise):
    out = limit_band(noise(1000), 0.0, 1e6, 8000)
    np.testing.assert_allclose(out, noise(1000), atol=1e-4)


def test_mu_law_by_hand():
    waveform = tf.constant([0.0, 1.0, -1.0, 0.5, -0.5, 1e-5, 3.0])
    # ln(1 + 255 / 2) / ln 256 = 0.87570 = 111.2 / 127, and (256^(111 / 127) - 1) / 255 = 0.4953.
    np.testing.assert_allclose(compand(waveform), [0, 1, -1, 0.4953, -0.4953, 0, 1], atol=1e-4)


def test_mu_law_has_255_values():
    assert len(np.unique(compand(tf.linspace(-1.0, 1.0, 100_001)))) == 255


def test_dither_has_its_deviation_on_the_16_bit_scale():
    out = add_dither(tf.zeros([40_001]), SEEDS[0], 2.0).numpy() * 32768
    # Five standard errors over 40,000 draws; those of a uniform deviation are below a normal's.
    np.testing.assert_allclose(out.mean(), 0, atol=5 * 2 / 200)
    np.testing.assert_allclose(out.std(), 2, atol=5 * 2 / 200 / 2**0.5)


def test_dither_is_white():
    out = add_dither(tf.zeros([40_000]), SEEDS[0], 1.0).numpy()
    for lag in (1, 2, 3, 20_000):
        assert abs(np.corrcoef(out[lag:], out[:-lag])[0, 1]) < 5 / 20_000**0.5


@pytest.mark.parametrize("name", CHANGES)
def test_an_empty_waveform_stays_empty(name):
    assert len(CHANGES[name](tf.zeros([0]))) == 0


@pytest.mark.parametrize("name", CHANGES)
def test_a_dataset_changes_a_waveform_as_eager_mode_does(noise, name):
    waveform = 0.1 * noise(1000)
    made = next(iter(tf.data.Dataset.from_tensors(waveform).map(CHANGES[name])))
    np.testing.assert_allclose(made, CHANGES[name](waveform), atol=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        lambda seed: coloured_noise(100, seed),
        lambda seed: made_room(seed, 0.1, 1000),
        lambda seed: change_channel(tf.ones([9]), seed, 3.0),
        lambda seed: add_dither(tf.ones([9]), seed, 3.0),
    ],
)
def test_the_seed_alone_decides(made):
    one, again, other = (made(SEEDS[i]).numpy() for i in (2, 2, 3))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
