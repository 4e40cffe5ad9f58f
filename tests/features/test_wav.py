import io
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfasr.features.wav import read_wav


@pytest.fixture(scope="module")
def read():
    return tf.function(read_wav, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def written(samples, rate=16000, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def pcm(data, *, tag=1, channels=1, bits=16, rate=8000, before=b""):
    form = struct.pack("<HHIIHH", tag, channels, rate, 0, 0, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + form + before
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_every_width_is_read_as_libsndfile_reads_it(read, noise, subtype, channels, kind):
    file = written(np.clip(0.3 * noise(1001, channels), -1, 1), 44100, subtype, kind)
    expected, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    samples, own_rate = read(file)
    assert int(own_rate) == rate == 44100
    np.testing.assert_allclose(samples, expected.mean(1), atol=1e-7)


@pytest.mark.parametrize(
    ("bits", "data", "expected"),
    [
        (8, bytes([0, 128, 255]), [-1, 0, 127 / 128]),
        (16, struct.pack("<3h", -32768, 1, 32767), [-1, 2**-15, 1 - 2**-15]),
        (24, b"\x00\x00\x80\x01\x00\x00\xff\xff\xff", [-1, 2**-23, -(2**-23)]),
        (32, struct.pack("<3i", -(2**31), 2**30, 128), [-1, 0.5, 2**-24]),
    ],
)
def test_samples_by_hand(read, bits, data, expected):
    samples, rate = read(pcm(data, bits=bits))
    np.testing.assert_array_equal(samples, np.array(expected, np.float32))
    assert int(rate) == 8000


def test_other_chunks_are_passed_over(read):
    other = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # an odd chunk has a byte of padding
    np.testing.assert_array_equal(read(pcm(b"\x00\x40", before=other))[0], [0.5])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 100])
def test_a_file_that_was_cut_short_is_read_to_its_end(read, size):
    file = bytearray(pcm(b"\x00\x40\x00\x20\x01"))
    file[40:44] = struct.pack("<I", size)
    np.testing.assert_array_equal(read(bytes(file))[0], [0.5, 0.25])


def test_no_samples_are_none(read):
    assert read(pcm(b""))[0].shape == (0,)


def test_floats_beyond_full_scale_are_clipped(read):
    data = struct.pack("<2f", 3.0, -0.5)
    np.testing.assert_array_equal(read(pcm(data, tag=3, bits=32))[0], [1, -0.5])


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (b"", "must be a WAV file"),
        (b"RIFF", "must be a WAV file"),
        (b"no audio" * 100, "must be a WAV file"),
        (pcm(b"\0\0")[:20], "must be a whole WAV file"),
        (pcm(b"\0\0")[:36], "must be a whole WAV file"),
        (pcm(b"\0\0", tag=7), "must be PCM of 8, 16, 24 or 32 bits.*7"),
        (pcm(b"\0\0", bits=12), "must be PCM of 8, 16, 24 or 32 bits.*12"),
        (pcm(b"\0\0", bits=0), "must be PCM of 8, 16, 24 or 32 bits"),
        (pcm(b"\0\0", channels=0), "must have channels and a sample rate"),
        (pcm(b"\0\0", rate=0), "must have channels and a sample rate"),
        (pcm(struct.pack("<f", np.nan), tag=3, bits=32), "must be finite"),
    ],
)
def test_what_is_no_such_file_is_refused_by_rule(read, file, told):
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        read(file)
