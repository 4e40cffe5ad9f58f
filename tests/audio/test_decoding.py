import io
import struct

import numpy as np
import pytest
import soundfile

from tfasr.audio.decoding import open_recording, read_audio, read_audio_bytes, wav_bytes, write_wav
from tfasr.audio.utterance import CorpusError
from tfasr.configs.audio import AudioConfig


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, length).astype(np.int16)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.rint(10000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def encoded(samples: np.ndarray, kind="WAV", subtype="PCM_16", rate=16000, **form) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype, **form)
    return buffer.getvalue()


def wav(tag: int, bits: int, data: bytes, *, channels: int = 1, rate: int = 16000) -> bytes:
    """A WAV file by its specification: 1 is PCM, 3 floating point, 6 A-law, 7 mu-law."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, width * rate, width, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


def steps_of_24_bits(*values: int) -> bytes:
    return b"".join(value.to_bytes(3, "little", signed=True) for value in values)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_16_bit_files_are_read_bit_exactly(kind):
    samples = noise(999)
    read = read_audio_bytes(encoded(samples, kind), "a", 16000)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, samples)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (wav(1, 8, bytes([0, 127, 128, 255])), [-32768, -256, 0, 32512]),
        (wav(1, 16, struct.pack("<3h", -32768, 1, 32767)), [-32768, 1, 32767]),
        # 1.5 and -1.5 lie between two steps; the last is half a step too high.
        (wav(1, 24, steps_of_24_bits(-(2**23), 384, -384, 2**23 - 1)), [-32768, 2, -2, 32767]),
        (
            wav(1, 32, struct.pack("<4i", -(2**31), 98304, -98304, 2**31 - 1)),
            [-32768, 2, -2, 32767],
        ),
        (wav(3, 32, struct.pack("<4f", 0.5, -0.25, 1.0, -2.0)), [16384, -8192, 32767, -32768]),
        (wav(3, 64, struct.pack("<3d", 0.5, 0.6 / 32768, 1e9)), [16384, 1, 32767]),
        # ITU-T G.711, tables 1a and 2a: the ends, zero and one between.
        (wav(7, 8, b"\x00\x80\xff\x8f"), [-32124, 32124, 0, 16764]),
        (wav(6, 8, b"\x2a\xaa\xd5\x55"), [-32256, 32256, 8, -8]),
    ],
    ids=["u8", "s16", "s24", "s32", "f32", "f64", "mu-law", "A-law"],
)
def test_wav_encodings_are_rounded_to_16_bits_and_clipped(data, expected):
    assert read_audio_bytes(data, "a", 16000).tolist() == expected


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_gives_the_samples_that_were_encoded(bits, channels):
    samples = noise(300 * channels).reshape(300, channels).astype(np.int32) << 16
    data = encoded(samples, "FLAC", f"PCM_{bits}")
    expected = np.rint((samples >> 16).mean(axis=1))
    np.testing.assert_array_equal(read_audio_bytes(data, "a", 16000), expected)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_keep_a_tone_in_its_place(kind, rate, channels):
    both = np.stack([tone(1000, rate) / 32768] * channels, axis=1)
    data = encoded(both, kind, None, rate, compression_level=0.0)
    read = read_audio_bytes(data, "a", 16000)
    assert len(read) == 16000
    inside = slice(1600, -1600)  # the silence before and after smears
    # Encoding at the best quality loses 3 % of the amplitude; a shift by a sample would be 39 %.
    np.testing.assert_allclose(read[inside], tone(1000, 16000)[inside], atol=300)


def test_a_file_is_read_like_its_bytes(tmp_path):
    samples = noise(50)
    (tmp_path / "a.flac").write_bytes(encoded(samples, "FLAC"))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac", 16000), samples)


def test_channels_are_averaged_and_rounded_to_even():
    stereo = np.array([[1, 2], [3, 4], [32767, 32767], [-32768, 0]], np.int16)
    read = read_audio_bytes(encoded(stereo), "a", 16000)
    assert read.tolist() == [2, 4, 32767, -16384]  # 1.5 and 3.5 lie between


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_tone_of_another_rate_is_the_same_tone(rate):
    read = read_audio_bytes(encoded(tone(1000, rate), rate=rate), "a", 16000)
    expected = tone(1000, 16000)
    assert len(read) == 16000
    inside = slice(400, -400)  # the filter sees silence beyond the ends
    # Half of one per cent: the ripple of the resampling filter.
    np.testing.assert_allclose(read[inside], expected[inside], atol=50)


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    read = read_audio_bytes(encoded(tone(7000, 16000)), "a", 8000)
    assert len(read) == 8000
    assert np.abs(read[200:-200]).max() <= 10  # -60 dB; unfiltered, a 1 kHz tone of 10,000


def test_resampled_peaks_are_clipped():
    square = np.tile(np.repeat(np.array([32767, -32768], np.int16), 8), 100)
    read = read_audio_bytes(encoded(square, rate=8000), "a", 16000)
    assert read.max() == 32767
    assert read.min() == -32768
    assert np.abs(np.diff(read.astype(int))).max() < 65535  # a wrap would jump full scale


def test_what_a_file_holds_counts_and_not_its_name(tmp_path):
    data = encoded(noise(9000) // 4, "MP3", "MPEG_LAYER_III")
    for name in ("a.mp3", "b.wav"):
        (tmp_path / name).write_bytes(data)
    read = read_audio(tmp_path / "b.wav", 16000)
    np.testing.assert_array_equal(read, read_audio(tmp_path / "a.mp3", 16000))


def test_text_with_the_name_of_a_recording_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("not audio at all\n" * 9)
    with pytest.raises(CorpusError, match=r"/a\.wav: must be audio that libsndfile reads"):
        read_audio(tmp_path / "a.wav", 16000)


def test_paths_may_hold_spaces_and_any_letters(tmp_path):
    path = tmp_path / "größe 音 [1].wav"
    path.write_bytes(encoded(noise(5)))
    np.testing.assert_array_equal(read_audio(path, 16000), noise(5))


def test_a_part_of_an_open_recording_is_read_without_what_is_before(tmp_path):
    (tmp_path / "a.flac").write_bytes(encoded(noise(30000), "FLAC"))
    with open_recording(tmp_path / "a.flac") as recording:
        part = recording.read(start=20001, stop=20004)
    np.testing.assert_array_equal(part, noise(30000)[20001:20004])


def test_raw_samples_need_settings(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"\1\0\2\0")
    with pytest.raises(CorpusError, match="must be audio"), open_recording(tmp_path / "a.raw"):
        pass
    with open_recording(tmp_path / "a.raw", AudioConfig()) as recording:
        assert recording.read(stop=recording.num_samples).tolist() == [1, 2]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"^.*/none\.wav: no such file$"):
        read_audio(tmp_path / "none.wav", 16000)


def test_a_folder_is_no_recording(tmp_path):
    with pytest.raises(CorpusError, match="must be a file that can be read"):
        read_audio(tmp_path, 16000)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "^a: must not be empty; got 0 bytes$"),
        (b"not audio at all" * 9, "^a: must be audio that libsndfile reads; .*not recognised"),
        (encoded(noise(0)), "^a: must hold at least one sample; got 0$"),
        (encoded(noise(100))[:30], "^a: must be audio that libsndfile reads"),
        (encoded(noise(100))[:-100], "^a: must not be cut short; got 100 of the 200 bytes"),
        (encoded(noise(100), "AIFF")[:-100], "^a: must not be cut short"),
        (encoded(noise(9000), "FLAC")[:-1], "^a: must not be damaged or cut short; "),
        (encoded(np.array([0.0, np.nan]), subtype="FLOAT"), "^a: samples must be finite"),
        (encoded(np.array([0.0, np.inf]), subtype="DOUBLE"), "^a: samples must be finite"),
        (encoded(noise(9), rate=100), "^a: sample rate must be 1000 to 384000 Hz; got 100 Hz"),
    ],
)
def test_unusable_bytes_are_refused_in_one_line(data, rule):
    with pytest.raises(CorpusError, match=rule) as raised:
        read_audio_bytes(data, "a", 16000)
    assert "\n" not in str(raised.value)


def test_a_damaged_flac_frame_is_refused():
    data = bytearray(encoded(noise(9000), "FLAC"))
    data[len(data) // 2] ^= 1
    with pytest.raises(CorpusError, match=r"^a: must not be damaged or cut short; [^\n]+$"):
        read_audio_bytes(bytes(data), "a", 16000)


def test_a_header_that_claims_more_than_memory_holds_is_refused():
    data = bytearray(encoded(noise(9000), "FLAC"))
    data[21] |= 0x0F  # the highest bits of STREAMINFO's total samples
    with pytest.raises(CorpusError, match=r"^a: must "):
        read_audio_bytes(bytes(data), "a", 16000)


def test_a_flac_without_its_length_is_refused():
    data = bytearray(encoded(noise(9000), "FLAC"))
    data[21] &= 0xF0  # the highest bits of STREAMINFO's total samples
    data[22:26] = bytes(4)
    with pytest.raises(CorpusError, match=r"^a: must say in its header how long it is; got no"):
        read_audio_bytes(bytes(data), "a", 16000)


@pytest.mark.parametrize("cut", [1, 5000])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_must_not_be_cut_within_a_page(subtype, cut):
    data = encoded(noise(48000) // 4, "OGG", subtype)
    assert len(read_audio_bytes(data, "a", 16000)) == 48000
    with pytest.raises(CorpusError, match=r"^a: must not be cut short; its last page is not"):
        read_audio_bytes(data[:-cut], "a", 16000)


def test_a_cut_ogg_file_is_refused_like_its_bytes(tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(encoded(noise(48000) // 4, "OGG", "VORBIS")[:-1])
    with pytest.raises(CorpusError, match=r"a\.ogg: must not be cut short; its last page"):
        read_audio(path, 16000)


def test_what_follows_the_last_page_of_an_ogg_is_not_missed():
    data = encoded(noise(4800) // 4, "OGG", "VORBIS")
    for behind in (b"TAG", bytes(70_000)):
        assert len(read_audio_bytes(data + behind, "a", 16000)) == 4800


def test_an_mp3_that_says_its_length_must_not_be_cut_short():
    data = encoded(noise(48000) // 4, "MP3", "MPEG_LAYER_III")
    with pytest.raises(CorpusError, match=r"^a: must not be cut short; got \d+ of the 48000"):
        read_audio_bytes(data[: len(data) // 2], "a", 16000)


@pytest.mark.parametrize("tag_bytes", [200, 20000])
def test_an_mp3_behind_a_tag_must_not_be_cut_short_either(tag_bytes):
    size = bytes([0, tag_bytes >> 14, tag_bytes >> 7 & 127, tag_bytes & 127])
    data = b"ID3\x04\0\0" + size + bytes(tag_bytes) + encoded(noise(48000) // 4, "MP3", None)
    assert len(read_audio_bytes(data, "a", 16000)) == 48000
    with pytest.raises(CorpusError, match=r"^a: must not be cut short; got \d+ of the 48000"):
        read_audio_bytes(data[:-4000], "a", 16000)


def test_an_mp3_shorter_than_its_estimated_length_is_read():
    # Two quiet seconds: from their few bytes the length of the whole is estimated too high.
    speech = np.concatenate([np.zeros(32000, np.int16), noise(48000) // 4])
    data = encoded(speech, "MP3", "MPEG_LAYER_III")
    frame = data.index(b"\xff\xf3", 100)  # leaves out the first frame, which has the length
    assert len(read_audio_bytes(data[frame:], "a", 16000)) == pytest.approx(80000, abs=2000)


def test_recordings_longer_than_one_block_are_whole():
    samples = noise((1 << 20) + 5)
    np.testing.assert_array_equal(read_audio_bytes(encoded(samples), "a", 16000), samples)


def test_a_wav_from_a_pipe_without_its_size_is_whole():
    samples = noise(100)
    data = bytearray(encoded(samples))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(read_audio_bytes(bytes(data), "a", 16000), samples)


def test_written_wav_reads_back_bit_exactly(tmp_path):
    samples = noise(77)
    write_wav(tmp_path / "a.wav", samples, 8000)
    read, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 8000
    np.testing.assert_array_equal(read, samples)


def test_wav_bytes_are_a_44_byte_header_and_16_bit_samples():
    data = wav_bytes(np.array([1, -2], np.int16), 8000)
    assert data[:4] + data[8:12] == b"RIFFWAVE"
    assert data[44:] == b"\x01\x00\xfe\xff"


def test_wav_bytes_of_float_samples_are_refused():
    with pytest.raises(ValueError, match="samples must be int16; got dtype=float64"):
        wav_bytes(np.zeros(3), 8000)
