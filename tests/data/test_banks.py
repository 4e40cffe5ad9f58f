import numpy as np
import pytest
import tensorflow as tf

from tfasr.audio.decoding import write_wav
from tfasr.audio.reading import AudioReader
from tfasr.configs.features import AugmentConfig
from tfasr.data import banks
from tfasr.data.banks import Banks, RecordingBank

RATE = 8000
READER = AudioReader(sample_rate=RATE)
SEEDS = [tf.constant([1, number], tf.int64) for number in range(60)]


def ramp(start, length):
    return np.arange(start, start + length, dtype=np.int16)


# Every value names its recording and its place there.
BANK = RecordingBank.of([ramp(100, 4), ramp(1000, 1), ramp(2000, 50)])


def as_int16(waveform):
    return (np.asarray(waveform) * 32768).astype(int).tolist()


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, samples, RATE)


def test_whole_recordings_are_picked_each_as_likely():
    picked = [as_int16(BANK.pick(seed)) for seed in SEEDS]
    assert {len(waveform) for waveform in picked} == {4, 1, 50}
    assert [100, 101, 102, 103] in picked
    # Five standard deviations of 60 draws.
    assert 2 <= picked.count([1000]) <= 38


def test_shorter_recordings_are_repeated():
    drawn = [as_int16(BANK.draw(seed, tf.constant(6))) for seed in SEEDS]
    assert [100, 101, 102, 103, 100, 101] in drawn
    assert [1000] * 6 in drawn


def test_longer_recordings_are_cut_at_every_place():
    drawn = [as_int16(BANK.draw(seed, tf.constant(48))) for seed in SEEDS]
    cuts = {tuple(waveform) for waveform in drawn if waveform[0] >= 2000}
    assert cuts == {tuple(range(2000 + skipped, 2048 + skipped)) for skipped in range(3)}


def test_no_samples_are_drawn_where_none_are_asked_for():
    assert len(BANK.draw(SEEDS[0], tf.constant(0))) == 0


def test_a_dataset_draws_as_eager_mode_does():
    seeds = tf.data.Dataset.from_tensor_slices(tf.stack(SEEDS))
    made = seeds.map(lambda seed: BANK.draw(seed, tf.constant(9)))
    for seed, waveform in zip(SEEDS, made, strict=True):
        np.testing.assert_array_equal(waveform, BANK.draw(seed, tf.constant(9)))


def test_a_folders_recordings_are_read_in_the_order_of_their_paths(tmp_path):
    write(tmp_path / "b.wav", ramp(30, 3))
    write(tmp_path / "a" / "z.WAV", ramp(10, 2))
    (tmp_path / "LICENSE").write_text("Notes are no recordings.")
    bank = RecordingBank.load(tmp_path, READER)
    assert bank.samples.numpy().tolist() == [10, 11, 30, 31, 32]
    assert bank.starts.numpy().tolist() == [0, 2, 5]


def test_a_folder_without_recordings_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: must be a folder of recordings.*\.flac"):
        RecordingBank.load(tmp_path, READER)


def test_a_recording_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path / "a.wav", ramp(1, 9))
    (tmp_path / "b.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match=rf"{tmp_path / 'b.wav'}: "):
        RecordingBank.load(tmp_path, READER)


def test_a_silent_recording_is_named(tmp_path):
    write(tmp_path / "a.wav", np.zeros(9, np.int16))
    with pytest.raises(ValueError, match=r"a\.wav: a recording to draw from must not be silent"):
        RecordingBank.load(tmp_path, READER)


def test_more_than_memory_is_meant_to_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(banks, "LONGEST_HOURS", 10 / RATE / 3600)
    write(tmp_path / "a.wav", ramp(1, 10))
    assert len(RecordingBank.load(tmp_path, READER).samples) == 10
    write(tmp_path / "b.wav", ramp(1, 1))
    with pytest.raises(ValueError, match=r"must last at most .*b\.wav is beyond that"):
        RecordingBank.load(tmp_path, READER)


def test_only_the_folders_that_are_asked_for_are_read(tmp_path):
    write(tmp_path / "noise" / "a.wav", ramp(1, 9))
    write(tmp_path / "rooms" / "a.wav", ramp(2, 9))
    assert Banks.load(AugmentConfig(noise_share=0.5), READER) == Banks()
    noise = Banks.load(AugmentConfig(noise_share=0.5, noise_folder=tmp_path / "noise"), READER)
    assert noise.rooms is None
    assert noise.noise.samples.numpy().tolist() == ramp(1, 9).tolist()
    rooms = Banks.load(AugmentConfig(reverb_share=0.5, reverb_folder=tmp_path / "rooms"), READER)
    assert rooms.noise is None
    assert rooms.rooms.samples.numpy().tolist() == ramp(2, 9).tolist()
