import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
import tensorflow_io as tfio

from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError
from tfasr.configs.audio import AudioConfig
from tfasr.data.recordings import decode_recordings, reading_errors

SPEECH = Path(__file__).parents[2].parent / "shared" / "data" / "LibriSpeech"
FORMS = {
    "plain.wav": {"subtype": "PCM_16"},
    "PLAIN.WAV": {"format": "WAV", "subtype": "PCM_16"},
    "bytes.wav": {"subtype": "PCM_U8"},
    "deep.wav": {"subtype": "PCM_24"},
    "deepest.wav": {"subtype": "PCM_32"},
    "float.wav": {"subtype": "FLOAT"},
    "double.wav": {"subtype": "DOUBLE"},
    "mulaw.wav": {"subtype": "ULAW"},
    "extended.wav": {"format": "WAVEX", "subtype": "PCM_16"},
    "big.wav": {"format": "AIFF", "subtype": "PCM_16"},
    "plain.flac": {"subtype": "PCM_16"},
    "deep.flac": {"subtype": "PCM_24"},
    "vorbis.ogg": {},
    "layer3.mp3": {},
    "layer3.wav": {"format": "MP3"},
    "samples.raw": {"subtype": "PCM_16", "endian": "LITTLE"},
}


def noise(length: int, channels: int = 1) -> np.ndarray:
    shape = (length, channels) if channels > 1 else length
    return np.random.default_rng(0).integers(-9000, 9000, shape).astype(np.int16)


def reader(**settings) -> AudioReader:
    return AudioReader(sample_rate=8000, settings=AudioConfig(raw_rate=8000, **settings))


def add(path, samples, rate=8000, **form):
    soundfile.write(path, samples, rate, **form)
    return path


def rows(*parts) -> tf.data.Dataset:
    """Examples from (path, offset, duration), numbered."""
    paths, offsets, durations = zip(*parts, strict=True)
    fields = {
        "audio_filepath": [os.fsencode(path) for path in paths],
        "offset": np.array(offsets, np.float64),
        "duration": np.array(durations, np.float64),
        "number": np.arange(len(paths)),
    }
    return tf.data.Dataset.from_tensor_slices(fields)


def decoded(path, offset=0.0, duration=0.0, **settings) -> np.ndarray:
    dataset = decode_recordings(rows((path, offset, duration)), reader=reader(**settings))
    (example,) = dataset.as_numpy_iterator()
    return example["waveform"]


def message(path, offset=0.0, duration=0.0, **settings) -> str:
    with pytest.raises(CorpusError) as raised, reading_errors():
        decoded(path, offset, duration, **settings)
    return str(raised.value)


def message_of_reader(path, **settings) -> str:
    with pytest.raises(CorpusError) as raised:
        reader(**settings).read(path)
    return str(raised.value)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_gives_the_samples_of_the_reader(tmp_path, rate, channels):
    paths = [
        add(tmp_path / name, noise(3000, channels), rate, **form) for name, form in FORMS.items()
    ]
    examples = decode_recordings(rows(*((path, 0, 0) for path in paths)), reader=reader())
    for path, example in zip(paths, examples.as_numpy_iterator(), strict=True):
        expected = reader().read(path)
        np.testing.assert_array_equal(example["waveform"] * 32768, expected, err_msg=path.name)


class Refusing(AudioReader):
    def read_part(self, path, offset=0.0, duration=float("inf")):
        raise CorpusError(f"{path}: is read in Python")


def test_tensorflow_itself_decodes_plain_wav_files(tmp_path):
    path = add(tmp_path / "a.wav", noise(300))
    (example,) = decode_recordings(rows((path, 0, 0)), reader=Refusing(sample_rate=8000))
    np.testing.assert_array_equal(example["waveform"] * 32768, noise(300))


def test_flac_has_the_samples_that_tensorflow_io_finds(tmp_path):
    path = add(tmp_path / "plain.flac", noise(5000), subtype="PCM_16")
    theirs = tfio.audio.decode_flac(tf.io.read_file(str(path)), dtype=tf.int16)
    np.testing.assert_array_equal(decoded(path) * 32768, theirs[:, 0])


@pytest.mark.parametrize("channel", ["left", "right"])
def test_the_channel_of_the_reader_is_taken(tmp_path, channel):
    path = add(tmp_path / "a.wav", noise(300, 2))
    expected = noise(300, 2)[:, ["left", "right"].index(channel)]
    np.testing.assert_array_equal(decoded(path, channel=channel) * 32768, expected)


def test_samples_are_steps_of_one_32768th(tmp_path):
    path = add(tmp_path / "a.wav", np.array([-32768, -1, 0, 1, 32767], np.int16))
    waveform = decoded(path)
    assert waveform.dtype == np.float32
    assert waveform.tolist() == [-1.0, -1 / 32768, 0.0, 1 / 32768, 32767 / 32768]


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize(
    ("offset", "duration", "part"),
    [
        (0.25, 0.5, slice(2000, 6000)),
        (0.0, 0.5, slice(4000)),
        (0.75, 0.0, slice(6000, 8000)),
        (0.5, 0.505, slice(4000, 8000)),
    ],
)
def test_parts_are_read(tmp_path, name, offset, duration, part):
    path = add(tmp_path / name, noise(8000))
    np.testing.assert_array_equal(decoded(path, offset, duration) * 32768, noise(8000)[part])


def test_examples_keep_their_order_and_what_else_is_in_them(tmp_path):
    parts = []
    for number in range(40):
        suffix = ["wav", "flac"][number % 2]
        path = add(tmp_path / f"{number}.{suffix}", noise(4000 - 90 * number))
        parts.append((path, 0.0, 0.0))
    examples = list(decode_recordings(rows(*parts), reader=reader()).as_numpy_iterator())
    assert [example["number"] for example in examples] == list(range(40))
    assert [example["num_samples"] for example in examples] == [4000 - 90 * n for n in range(40)]
    assert [len(example["waveform"]) for example in examples] == [4000 - 90 * n for n in range(40)]


def test_the_examples_have_known_types():
    (spec,) = [decode_recordings(rows(("a.wav", 0, 0)), reader=reader()).element_spec]
    assert spec == {
        "number": tf.TensorSpec([], tf.int64),
        "waveform": tf.TensorSpec([None], tf.float32),
        "num_samples": tf.TensorSpec([], tf.int32),
    }


def test_paths_may_hold_spaces_and_any_bytes(tmp_path):
    for name in ("größe 音 [1]*.wav", "größe 音 [1]*.flac", os.fsdecode(b"\xff\xfe.wav")):
        data = add(tmp_path / "plain.wav", noise(30)).read_bytes()
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(decoded(tmp_path / name) * 32768, noise(30))


@pytest.mark.parametrize("name", ["é a.wav", "é a.flac"])
@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "cut"])
def test_what_cannot_be_read_is_one_line_as_of_the_reader(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    elif kind == "cut":
        add(path, noise(9000))
        os.truncate(path, path.stat().st_size - 100)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"not audio" * 9}[kind])
    assert message(path) == message_of_reader(path)


@pytest.mark.parametrize(
    ("samples", "form", "settings"),
    [
        (noise(0), {}, {}),
        (np.array([0.0, np.nan]), {"subtype": "FLOAT"}, {}),
        (noise(4001), {}, {"longest_seconds": 0.5}),
        (noise(40), {}, {"channel": "right"}),
    ],
    ids=["no samples", "NaN", "too long", "no such channel"],
)
def test_what_is_unusable_is_refused_as_by_the_reader(tmp_path, samples, form, settings):
    path = add(tmp_path / "a.wav", samples, **form)
    assert message(path, **settings) == message_of_reader(path, **settings)


def test_a_part_outside_of_the_recording_is_named(tmp_path):
    path = add(tmp_path / "a.wav", noise(8000))
    assert message(path, 0.5, 0.75) == (
        f"{path}: offset and duration must lie in the recording; got 0.5 s and 0.75 s of 1.0 s"
    )


def test_a_wav_header_that_says_less_than_there_is_is_followed(tmp_path):
    path = add(tmp_path / "a.wav", noise(50))
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"more")
    np.testing.assert_array_equal(decoded(path) * 32768, noise(50))


def test_tensorflows_own_error_names_the_file_in_its_first_line(tmp_path):
    path = tmp_path / "none.flac"
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decoded(path)
    first = raised.value.message.splitlines()[0]
    assert first.endswith(f"CorpusError: {path}: no such file")


def test_other_errors_pass():
    with pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size"), reading_errors():
        tf.linalg.matmul(tf.zeros([2, 3]), tf.zeros([2, 3]))
    with pytest.raises(KeyError), reading_errors():
        raise KeyError("a")


def test_reading_again_and_again_keeps_the_memory(tmp_path):
    for name in ("a.wav", "a.flac"):
        path = add(tmp_path / name, noise(100_000))
        dataset = decode_recordings(rows((path, 0, 0)).repeat(150), reader=reader())
        held = []
        for _ in range(3):
            for _ in dataset:
                pass
            held.append(resident_bytes())
        # Each pass reads 15 million samples: kept, they would be 30 MB or more.
        assert held[2] - held[1] < 20e6, name


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not SPEECH.is_dir(), reason="needs LibriSpeech in ../shared/data")
def test_speech_is_read_as_by_the_reader():
    paths = sorted(SPEECH.rglob("*.flac"))[:3]
    own = AudioReader(sample_rate=16000)
    examples = decode_recordings(rows(*((path, 0, 0) for path in paths)), reader=own)
    for path, example in zip(paths, examples.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(example["waveform"] * 32768, own.read(path))
