import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import FbankConfig
from tfasr.configs.seeds import counted_generator
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.features.streaming import StreamingFeatures

CONFIG = FbankConfig(sample_rate=8000, num_mels=6)  # Windows of 200 samples, 80 apart.
STATISTICS = FeatureStatistics((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (1.0, 2.0, 1.0, 2.0, 1.0, 4.0))
EXTRACTOR = FeatureExtractor(CONFIG, STATISTICS)
STREAM = StreamingFeatures(EXTRACTOR)


def whole(waveform):
    features, frames = EXTRACTOR(tf.constant(waveform[None]), tf.constant([len(waveform)]))
    return features[0, : int(frames[0])].numpy()


def in_pieces(waveform, sizes):
    """Frames of the pieces and the largest state between them."""
    state, frames, largest = STREAM.start(), [], 0
    for piece in np.split(waveform, np.cumsum(sizes)):
        features, state = STREAM.step(piece, state)
        frames.append(features)
        largest = max(largest, len(state))
    return np.concatenate(frames), largest


@pytest.mark.parametrize(
    ("samples", "sizes"),
    [
        (1000, []),
        (1000, [0, 0, 500, 0]),
        (1000, [199, 1, 79, 1]),
        (1000, [200, 80, 80, 80]),
        (700, [1] * 700),
        (199, [100]),
        (0, [0]),
    ],
)
def test_frames_are_those_of_the_whole_however_it_is_cut(noise, samples, sizes):
    waveform = 0.1 * noise(samples)
    frames, _ = in_pieces(waveform, sizes)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, whole(waveform), atol=1e-5)


def test_frames_of_random_pieces_are_those_of_the_whole(noise):
    generator = counted_generator(0, "pieces")
    for trial in range(20):
        waveform = 0.1 * noise(int(generator.integers(3000)), seed=trial)
        sizes = generator.integers(0, 400, 12)
        frames, _ = in_pieces(waveform, sizes[np.cumsum(sizes) < len(waveform)])
        np.testing.assert_allclose(frames, whole(waveform), atol=1e-5)


def test_a_frame_comes_with_its_last_sample(noise):
    waveform = 0.1 * noise(280)
    counts, state = [], STREAM.start()
    for piece in (waveform[:199], waveform[199:200], waveform[200:279], waveform[279:]):
        features, state = STREAM.step(piece, state)
        counts.append(len(features))
    assert counts == [0, 1, 0, 1]


def test_less_than_a_window_is_remembered_of_a_long_stream(noise):
    _, largest = in_pieces(0.1 * noise(40_000), [37] * 1000)
    assert largest < CONFIG.frame_length


def test_int16_samples_are_steps_of_full_scale(noise):
    waveform = (3000 * noise(700)).astype(np.int16)
    frames, _ = in_pieces(waveform, [300, 1])
    np.testing.assert_allclose(frames, whole(waveform.astype(np.float32) / 32768), atol=1e-5)


def test_the_state_does_not_hold_on_to_the_piece(noise):
    _, state = STREAM.step(0.1 * noise(4000), STREAM.start())
    assert state.base is None


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros([2, 5], np.int16), r"of one channel, \[N\]; got shape \(2, 5\)"),
        (np.zeros(5, np.int32), "must be int16 or float; got int32"),
        (np.zeros(5, np.uint8), "must be int16 or float; got uint8"),
    ],
)
def test_samples_that_are_none_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        STREAM.step(samples, STREAM.start())


def test_windows_that_leave_samples_out_are_refused():
    config = FbankConfig(sample_rate=8000, num_mels=6, frame_shift_ms=30.0)
    with pytest.raises(ValueError, match="got frame_shift=240, frame_length=200 samples"):
        StreamingFeatures(FeatureExtractor(config, STATISTICS))
