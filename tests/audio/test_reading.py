import io
import os
import struct
import threading

import numpy as np
import pytest
import soundfile

from tfasr.audio.decoding import read_audio
from tfasr.audio.reading import AudioReader, decode_ahead
from tfasr.audio.utterance import CorpusError, Segment, Utterance
from tfasr.configs.audio import AudioConfig

TEN_HOURS = 10 * 3600
# An instant far into the recording of ten hours, in seconds.
LATE = 9 * 3600 + 0.5


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, length).astype(np.int16)


def reader(rate: int = 8000, **settings) -> AudioReader:
    return AudioReader(sample_rate=rate, settings=AudioConfig(**settings))


def add(path, samples, rate=8000, **form):
    soundfile.write(path, samples, rate, **form)
    return path


def utterance(name: str) -> Utterance:
    return Utterance(utterance_id=name, split="test", text="x", origin=name)


def segment(path, offset, duration) -> Segment:
    return Segment(
        utterance_id="s",
        split="test",
        text="x",
        audio_filepath=path,
        origin="m.jsonl:7",
        offset=offset,
        duration=duration,
    )


@pytest.fixture
def ten_hours(tmp_path):
    """A WAV of silence, 8 kHz, 576 MB that take no space, but for 100 samples at `LATE`."""
    path, num_bytes = tmp_path / "meeting.wav", 2 * 8000 * TEN_HOURS
    head = b"RIFF" + struct.pack("<I", 36 + num_bytes) + b"WAVEfmt "
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    with path.open("wb") as file:
        file.write(head + form + b"data" + struct.pack("<I", num_bytes))
        file.seek(44 + 2 * round(8000 * LATE))
        file.write(noise(100).tobytes())
        file.truncate(44 + num_bytes)
    return path


def test_a_whole_recording_is_read_as_without_settings(tmp_path):
    path = add(tmp_path / "a.flac", noise(999), 11025)
    np.testing.assert_array_equal(reader().read(path), read_audio(path, 8000))


@pytest.mark.parametrize(
    ("channel", "expected"), [("mix", [4, -3]), ("left", [1, 0]), ("right", [7, -6])]
)
@pytest.mark.parametrize(
    "form", [{"format": "WAV", "subtype": "PCM_16"}, {"format": "FLAC", "subtype": "PCM_24"}]
)
def test_the_channel_is_taken(tmp_path, channel, expected, form):
    stereo = np.array([[1, 7], [0, -6]], np.int32) << 16
    path = add(tmp_path / "a", stereo, **form)
    assert reader(channel=channel).read(path).tolist() == expected


def test_only_the_first_two_of_many_channels_have_a_side(tmp_path):
    path = add(tmp_path / "a.wav", np.array([[3, 4, 5, 6]], np.int16))
    assert [reader(channel=side).read(path)[0] for side in ("left", "right")] == [3, 4]


def test_the_left_channel_of_a_mono_recording_is_all_of_it(tmp_path):
    path = add(tmp_path / "a.wav", noise(20))
    np.testing.assert_array_equal(reader(channel="left").read(path), noise(20))


def test_a_mono_recording_has_no_right_channel(tmp_path):
    path = add(tmp_path / "a.wav", noise(20))
    with pytest.raises(CorpusError, match=r"/a\.wav: must have a right channel; got one channel"):
        reader(channel="right").read(path)


def test_what_is_not_finite_in_the_other_channel_does_not_matter(tmp_path):
    path = add(tmp_path / "a.wav", np.array([[0.5, np.nan]]), subtype="DOUBLE")
    assert reader(channel="left").read(path).tolist() == [16384]
    with pytest.raises(CorpusError, match="samples must be finite"):
        reader().read(path)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("s16", struct.pack("<2h", 1, -32768), [1, -32768]),
        ("s24", b"\x80\x01\x00\x00\x00\x80", [2, -32768]),  # 384 is 1.5 steps of 16 bits
        ("s32", struct.pack("<2i", 3 << 16, -(1 << 31)), [3, -32768]),
        ("f32", struct.pack("<2f", 0.5, -1.5), [16384, -32768]),
        ("ulaw", b"\x80\xff", [32124, 0]),  # ITU-T G.711, table 2a
        ("alaw", b"\xaa\x55", [32256, -8]),  # ITU-T G.711, table 1a
    ],
)
@pytest.mark.parametrize("name", ["a.raw", "b.PCM"])
def test_raw_files_are_read_by_their_settings(tmp_path, name, encoding, data, expected):
    (tmp_path / name).write_bytes(data)
    read = reader(raw_rate=8000, raw_encoding=encoding).read(tmp_path / name)
    assert read.tolist() == expected


def test_the_channels_of_raw_files_take_turns(tmp_path):
    (tmp_path / "a.raw").write_bytes(struct.pack("<4h", 1, 10, 2, 20))
    read = reader(raw_rate=8000, raw_channels=2, channel="right").read(tmp_path / "a.raw")
    assert read.tolist() == [10, 20]


def test_raw_files_are_resampled(tmp_path):
    (tmp_path / "a.raw").write_bytes(noise(1000).tobytes())
    add(tmp_path / "a.wav", noise(1000), 16000)
    read = reader(raw_rate=16000).read(tmp_path / "a.raw")
    np.testing.assert_array_equal(read, reader().read(tmp_path / "a.wav"))


def test_raw_files_hold_whole_samples(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(13))
    with pytest.raises(CorpusError, match=r"/a\.raw: size must be a multiple of 6 bytes.*got 13"):
        reader(raw_encoding="s24", raw_channels=2).read(tmp_path / "a.raw")


def test_an_empty_raw_file_is_refused(tmp_path):
    (tmp_path / "a.raw").touch()
    with pytest.raises(CorpusError, match=r"/a\.raw: must not be empty; got 0 bytes"):
        reader().read(tmp_path / "a.raw")


def test_the_longest_recording_may_be_read(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    assert len(reader(longest_seconds=1.0).read(path)) == 8000


def test_one_sample_more_than_the_longest_is_refused_with_what_to_do(tmp_path):
    path = add(tmp_path / "a.wav", noise(12001))
    with pytest.raises(CorpusError) as raised:
        reader(longest_seconds=1.5).read(path)
    assert str(raised.value) == (
        f"{path}: an utterance must last at most 1.5 s; got 1.500125 s: cut it into "
        "parts, with offset and duration or Kaldi segments, or raise --audio.longest_seconds"
    )


def test_ten_hours_are_refused_without_reading_them(ten_hours):
    with pytest.raises(CorpusError, match=r"at most 600 s; got 36000\.0 s"):
        reader().read(ten_hours)


def test_ten_raw_hours_are_refused_without_reading_them(tmp_path):
    with (tmp_path / "a.raw").open("wb") as file:
        file.truncate(2 * 16000 * TEN_HOURS)
    with pytest.raises(CorpusError, match=r"at most 600 s; got 36000\.0 s"):
        reader().read(tmp_path / "a.raw")


def test_an_mp3_that_does_not_say_its_length_is_refused_when_it_goes_on(tmp_path):
    buffer = io.BytesIO()
    steady = {"compression_level": 0.5, "bitrate_mode": "CONSTANT"}
    soundfile.write(buffer, noise(80000), 16000, format="MP3", **steady)
    data = buffer.getvalue()
    path = tmp_path / "a.mp3"
    path.write_bytes(data[data.index(b"\xff\xf3", 100) :])  # without the frame with the length
    with pytest.raises(CorpusError, match="at most 3 s; got more: cut it"):
        reader(longest_seconds=3.0).read(path)


def test_a_part_of_ten_hours_is_read(ten_hours):
    read = reader().read_part(ten_hours, LATE - 0.001, 0.003)
    np.testing.assert_array_equal(read, [0] * 8 + noise(16).tolist())


def test_a_part_longer_than_the_longest_is_refused(ten_hours):
    with pytest.raises(CorpusError, match=r"at most 600 s; got 700\.0 s"):
        reader().read_part(ten_hours, 5.0, 700.0)


@pytest.mark.parametrize(
    "form",
    [
        {"format": "WAV", "subtype": "PCM_16"},
        {"format": "WAV", "subtype": "PCM_24"},
        {"format": "WAV", "subtype": "ULAW"},
        {"format": "FLAC", "subtype": "PCM_16"},
        {"format": "FLAC", "subtype": "PCM_24"},
        {"format": "OGG", "subtype": "VORBIS"},
        {"format": "MP3", "subtype": "MPEG_LAYER_III"},
    ],
    ids=lambda form: "-".join(form.values()),
)
def test_a_part_is_the_slice_of_the_whole(tmp_path, form):
    path = add(tmp_path / "a", noise(40000), **form)
    whole = reader().read(path)
    part = reader().read_part(path, 2.5, 1.25)
    np.testing.assert_array_equal(part, whole[20000:30000])


def test_a_part_at_another_rate_is_resampled_by_itself(tmp_path):
    path = add(tmp_path / "a.wav", noise(40000), 16000)
    alone = add(tmp_path / "b.wav", noise(40000)[16000:24000], 16000)
    part = reader().read_part(path, 1.0, 0.5)
    assert len(part) == 4000
    np.testing.assert_array_equal(part, reader().read(alone))


def test_a_part_without_a_duration_goes_to_the_end(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    np.testing.assert_array_equal(reader().read_part(path, 0.75), noise(8000)[6000:])


def test_the_end_of_a_part_may_be_rounded(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    np.testing.assert_array_equal(reader().read_part(path, 0.5, 0.51), noise(8000)[4000:])


@pytest.mark.parametrize(
    ("offset", "duration"),
    [(0.5, 0.52), (1.0, 0.005), (1.5, 0.1), (-0.1, 0.5), (0.5, 0.0), (0.5, -0.1), (0.0, 1e-5)],
)
def test_a_part_that_does_not_lie_in_the_recording_is_refused(tmp_path, offset, duration):
    path = add(tmp_path / "a.wav", noise(8000))
    rule = rf"/a\.wav: offset and duration must lie .*; got {offset} s and {duration} s of 1.0 s$"
    with pytest.raises(CorpusError, match=rule):
        reader().read_part(path, offset, duration)


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), 1.0])
def test_a_rest_that_does_not_lie_in_the_recording_is_refused(tmp_path, offset):
    path = add(tmp_path / "a.wav", noise(8000))
    with pytest.raises(CorpusError, match=rf"; got {offset} s and all that follows of 1\.0 s$"):
        reader().read_part(path, offset)


def test_a_part_of_a_cut_recording_is_refused(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    os.truncate(path, 9000)
    with pytest.raises(CorpusError, match="must not be cut short; got 8956 of the 16000 bytes"):
        reader().read_part(path, 0.1, 0.1)


def test_recordings_in_memory_are_read_by_the_same_settings(tmp_path):
    path = add(tmp_path / "a.wav", np.stack([noise(8000), -noise(8000)], axis=1))
    own = reader(channel="right", longest_seconds=0.5)
    part = own.read_bytes(path.read_bytes(), "pipe", 0.25, 0.5)
    np.testing.assert_array_equal(part, -noise(8000)[2000:6000])
    with pytest.raises(CorpusError, match=r"^pipe: an utterance must last at most 0\.5 s"):
        own.read_bytes(path.read_bytes(), "pipe")


def test_utterances_are_whole_recordings_and_segments_parts(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    whole = Utterance(utterance_id="u", split="test", text="x", audio_filepath=path)
    assert len(reader().read_utterance(whole)) == 8000
    part = reader().read_utterance(segment(path, 0.25, 0.5))
    np.testing.assert_array_equal(part, noise(8000)[2000:6000])


def test_a_wrong_segment_is_named_by_its_origin(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    with pytest.raises(CorpusError, match=r"^m\.jsonl:7: offset and duration must lie"):
        reader().read_utterance(segment(path, 0.5, 0.6))


def test_an_utterance_without_a_recording_is_refused():
    with pytest.raises(CorpusError, match=r"^here: must have an audio_filepath; got none$"):
        reader().read_utterance(utterance("here"))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_the_length_is_looked_up_in_the_header(tmp_path, form):
    path = add(tmp_path / "a", noise(44100), 44100, format=form)
    assert reader(16000).seconds_of(path) == 1.0


def test_the_length_of_raw_files_follows_from_their_size(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(3000))
    assert reader(raw_rate=8000, raw_encoding="s24").seconds_of(tmp_path / "a.raw") == 0.125


def test_decoding_ahead_keeps_the_order_and_gives_errors_as_values():
    def decode(entry: Utterance) -> np.ndarray:
        if entry.utterance_id == "3":
            raise CorpusError("3: broken")
        return np.array([int(entry.utterance_id)], np.int16)

    found = list(decode_ahead(decode, [utterance(str(i)) for i in range(100)]))
    assert str(found.pop(3)) == "3: broken"
    assert np.concatenate(found).tolist() == [i for i in range(100) if i != 3]


def test_decoding_ahead_does_not_run_through_the_whole_corpus():
    drawn: list[int] = []

    def entries():
        for i in range(10**6):
            drawn.append(i)
            yield utterance(str(i))

    results = decode_ahead(lambda entry: np.zeros(1, np.int16), entries())
    next(results)
    results.close()
    assert len(drawn) < 10**5
    assert all("ThreadPool" not in thread.name for thread in threading.enumerate())


def test_an_error_that_is_no_corpus_error_is_not_hidden():
    def decode(entry: Utterance) -> np.ndarray:
        raise KeyError(entry.utterance_id)

    with pytest.raises(KeyError):
        next(decode_ahead(decode, [utterance("1")]))
