import io
import threading

import numpy as np
import pytest
import soundfile

from tfasr.audio.decoding import decode_ahead, read_audio, read_audio_bytes, wav_bytes, write_wav
from tfasr.audio.utterance import CorpusError, Utterance


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, length).astype(np.int16)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.rint(10000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def encoded(samples: np.ndarray, kind: str = "WAV", subtype: str = "PCM_16", rate: int = 16000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def utterance(name: str) -> Utterance:
    return Utterance(utterance_id=name, split="test", text="x", origin=name)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_16_bit_files_are_read_bit_exactly(kind):
    samples = noise(999)
    read = read_audio_bytes(encoded(samples, kind), "a", 16000)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, samples)


def test_a_file_is_read_like_its_bytes(tmp_path):
    samples = noise(50)
    (tmp_path / "a.flac").write_bytes(encoded(samples, "FLAC"))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac", 16000), samples)


def test_channels_are_averaged_and_rounded_to_even():
    stereo = np.array([[1, 2], [3, 4], [32767, 32767], [-32768, 0]], np.int16)
    read = read_audio_bytes(encoded(stereo), "a", 16000)
    assert read.tolist() == [2, 4, 32767, -16384]  # 1.5 and 3.5 lie between


def test_float_samples_are_scaled_and_clipped():
    samples = np.array([0.5, -0.25, 1.0, 2.0, -2.0, 0.6 / 32768])
    read = read_audio_bytes(encoded(samples, subtype="FLOAT"), "a", 16000)
    assert read.tolist() == [16384, -8192, 32767, 32767, -32768, 1]


def test_24_bit_samples_are_rounded():
    read = read_audio_bytes(
        encoded(np.array([256 * 65536, 384 * 256, -384 * 256], np.int32), subtype="PCM_24"),
        "a",
        16000,
    )
    assert read.tolist() == [256, 2, -2]  # 1.5 and -1.5 lie between


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
        (encoded(noise(9000), "FLAC")[:-1], "^a: must be audio that libsndfile reads"),
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
    with pytest.raises(CorpusError, match=r"^a: must be audio that libsndfile reads"):
        read_audio_bytes(bytes(data), "a", 16000)


def test_a_header_that_claims_more_than_memory_holds_is_refused():
    data = bytearray(encoded(noise(9000), "FLAC"))
    data[21] |= 0x0F  # the highest bits of STREAMINFO's total samples
    with pytest.raises(CorpusError, match=r"^a: must "):
        read_audio_bytes(bytes(data), "a", 16000)


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
