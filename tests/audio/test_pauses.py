import io

import numpy as np
import pytest
import soundfile

from tfasr.audio.decoding import open_recording_bytes, wav_bytes
from tfasr.audio.pauses import parts_at_pauses
from tfasr.configs.seeds import counted_generator

RATE = 1000


def speech(seconds, *pauses):
    """Loud noise but for stretches from one second to another."""
    samples = counted_generator(0, "speech").integers(1000, 9000, round(seconds * RATE))
    for start, stop in pauses:
        samples[round(start * RATE) : round(stop * RATE)] = 1
    return samples.astype(np.int16)


def parts_of(samples, max_seconds):
    with open_recording_bytes(wav_bytes(samples, RATE), "made") as recording:
        return list(parts_at_pauses(recording, max_seconds=max_seconds))


def test_a_part_ends_in_the_middle_of_a_pause():
    parts = parts_of(speech(18, (6, 6.5), (13, 13.3)), 10.0)
    # The last 0.3 s of the first pause, since all of it is as quiet.
    assert [part.start for part in parts] == [0.0, pytest.approx(6.35), pytest.approx(13.15)]


def test_pauses_in_the_first_half_are_left_alone():
    parts = parts_of(speech(12, (2, 3), (8, 8.3)), 10.0)
    assert [part.start for part in parts] == [0.0, pytest.approx(8.15)]


@pytest.mark.parametrize("max_seconds", [0.001, 0.02, 0.5, 3.3, 100.0])
def test_the_parts_are_the_recording(max_seconds):
    samples = speech(7.123)
    parts = parts_of(samples[: 200 if max_seconds == 0.001 else None], max_seconds)
    whole = np.concatenate([part.samples for part in parts])
    np.testing.assert_array_equal(whole, samples[: len(whole)])
    assert len(whole) == (200 if max_seconds == 0.001 else len(samples))
    assert max(len(part.samples) for part in parts) <= max_seconds * RATE
    starts = np.cumsum([0, *(len(part.samples) for part in parts)])[:-1] / RATE
    np.testing.assert_allclose([part.start for part in parts], starts)


def test_silence_is_cut_at_its_end():
    parts = parts_of(np.zeros(15 * RATE, np.int16), 10.0)
    assert [len(part.samples) for part in parts] == [9850, 5150]


def test_channels_are_averaged():
    file = io.BytesIO()
    stereo = np.stack([np.full(3000, 100), np.full(3000, 200)], 1).astype(np.int16)
    soundfile.write(file, stereo, RATE, format="FLAC", subtype="PCM_16")
    with open_recording_bytes(file.getvalue(), "stereo") as recording:
        parts = list(parts_at_pauses(recording, max_seconds=2.0))
    assert len(parts) == 2
    assert all((part.samples == 150).all() for part in parts)
