import io
import json

import numpy as np
import pytest
import soundfile

from tfasr.audio.decoding import read_audio_bytes
from tfasr.serving.inputs import InputError, checked_wav, checked_waveforms, one_line, shown


def audio_file(samples, rate=8000, **settings):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", **settings})
    return buffer.getvalue()


def ramp(num_samples):
    return np.arange(num_samples, dtype=np.int16)


def check(data):
    return checked_wav(data, "instance 3", sample_rate=8000, max_seconds=2.0)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF"])
def test_lossless_audio_at_the_models_rate_keeps_its_samples(container):
    wav = check(audio_file(ramp(100), format=container, subtype="PCM_16"))
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="int16")
    assert rate == 8000
    np.testing.assert_array_equal(samples, ramp(100))


def test_other_rates_give_the_samples_that_a_corpus_would_have():
    data = audio_file(ramp(441), rate=44100)
    samples, rate = soundfile.read(io.BytesIO(check(data)), dtype="int16")
    assert (rate, len(samples)) == (8000, 80)
    np.testing.assert_array_equal(samples, read_audio_bytes(data, "", 8000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"RIFF\x24\0\0\0WAVE",
        audio_file(ramp(0)),
        audio_file(ramp(100))[:-40],
        audio_file(ramp(5000), format="FLAC")[:200],
    ],
    ids=["empty", "text", "half a header", "no samples", "cut short", "cut short FLAC"],
)
def test_what_is_no_whole_audio_is_refused_on_one_line_by_name(data):
    with pytest.raises(InputError, match=r"^instance 3: [^\n]+$"):
        check(data)


def test_audio_of_the_longest_length_is_taken():
    assert len(check(audio_file(ramp(16000)))) == 44 + 2 * 16000


def test_audio_that_is_too_long_is_refused():
    with pytest.raises(InputError, match=r"^instance 3: .* at most 2 s; got 2\.5 s$"):
        check(audio_file(ramp(20000)))


def test_a_short_file_of_very_many_values_is_refused_before_it_is_decoded():
    silence = np.zeros((16000, 60), np.int16)
    with pytest.raises(InputError, match="got 60 channels at 8000 Hz"):
        check(audio_file(silence, format="WAV"))


def waveforms(*instances):
    return checked_waveforms(instances, sample_rate=8000, max_seconds=2.0)


def test_waveforms_become_one_batch():
    batch, num_samples = waveforms(
        {"waveforms": [0.5, -1, 0.25], "num_samples": 3},
        {"waveforms": [1.0, 0.0, 0.0], "num_samples": 1},
    )
    assert (batch.dtype, num_samples.dtype) == (np.float32, np.int32)
    assert batch.tolist() == [[0.5, -1.0, 0.25], [1.0, 0.0, 0.0]]
    assert num_samples.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("samples", "num_samples", "message"),
    [
        ([], 0, "must be a list of numbers that is not empty"),
        ("0.5", 1, "must be a list of numbers that is not empty"),
        ([0.5, "0.5"], 2, r"must be numbers in \[-1, 1\]; got '0.5'"),
        ([0.5, True], 2, "got True"),
        ([0.5, None], 2, "got None"),
        ([0.5, [0.5]], 2, "got a JSON array of 1"),
        ([0.5, float("nan")], 2, "got nan"),
        ([0.5, 32767], 2, "got 32767"),
        ([0.5, 10**400], 2, "got 1000"),
        ([0.5, 0.5], 3, r"num_samples must be an integer in \[1, 2\]; got 3"),
        ([0.5, 0.5], 0, "got 0"),
        ([0.5, 0.5], 2.0, "got 2.0"),
        ([0.5, 0.5], True, "got True"),
        ([0.5], 1, "padded to one length; got 1 samples, instance 0 has 2"),
        ([0.5] * 16001, 1, "at most 2 s; got 2 s"),
    ],
)
def test_waveforms_that_break_a_rule_are_named(samples, num_samples, message):
    good = {"waveforms": [0.5, 0.5], "num_samples": 2}
    with pytest.raises(InputError, match=f"^instance 1: .*{message}"):
        waveforms(good, {"waveforms": samples, "num_samples": num_samples})


@pytest.mark.parametrize("value", ["\ud800\n", "é" * 1000, {"a": 1}, [1, 2], 1e300, None, True])
def test_values_are_shown_briefly_in_printable_characters(value):
    text = shown(value)
    json.dumps(text).encode("ascii")
    assert len(text) < 500
    assert text.isprintable()


def test_messages_fit_on_one_line():
    assert one_line(" a\n  b\tc\r\n") == "a b c"
