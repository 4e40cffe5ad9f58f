import kaldi_native_fbank
import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import FbankConfig
from tfasr.features.fbank import INT16_SCALE, fbank, mel_weights, num_frames

# An eighth of a millisecond holds one sample: windows of 8, hops of 4, a transform of 8 points.
SMALL = FbankConfig(
    sample_rate=8000, num_mels=1, frame_length_ms=1.0, frame_shift_ms=0.5, low_hz=0.0
)


def kaldi_fbank(samples, config):
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = config.num_mels
    online = kaldi_native_fbank.OnlineFbank(options)
    online.accept_waveform(config.sample_rate, samples.tolist())
    online.input_finished()
    return np.stack([online.get_frame(index) for index in range(online.num_frames_ready)])


def recording(noise, sample_rate):
    """Half a second each of noise, a tone in a room, silence, a constant and a flipping bit."""
    time = np.arange(sample_rate // 2) / sample_rate
    parts = [
        8000 * noise(time.size),
        10000 * np.sin(2 * np.pi * 440 * time) + 100 * noise(time.size),
        0 * time,
        0 * time + 7,
        np.sign(noise(time.size, seed=1)) * (noise(time.size, seed=2) > 1),
    ]
    return np.clip(np.round(np.concatenate(parts)), -32768, 32767).astype(np.float32)


@pytest.mark.parametrize(("sample_rate", "num_mels"), [(16000, 80), (8000, 40)])
def test_features_are_kaldis(noise, sample_rate, num_mels):
    config = FbankConfig(sample_rate=sample_rate, num_mels=num_mels)
    samples = recording(noise, sample_rate)
    ours = fbank(samples[None] / INT16_SCALE, config)[0]
    # The two float32 transforms round differently where a band is quiet beside a loud one.
    np.testing.assert_allclose(ours, kaldi_fbank(samples, config), atol=1e-3)


def test_silence_is_at_the_floor():
    features = fbank(np.zeros([1, 400], np.float32), FbankConfig())
    np.testing.assert_allclose(features, np.full([1, 1, 80], np.log(2.0**-23)), rtol=1e-6)


def test_doubling_a_waveform_adds_log_4(noise):
    waveform = 0.1 * noise(1, 1000)
    louder, quieter = (fbank(gain * waveform, FbankConfig()) for gain in (2, 1))
    np.testing.assert_allclose(louder - quieter, np.full([1, 4, 80], np.log(4)), atol=1e-4)


def test_frames_hold_only_their_own_samples(noise):
    waveform = noise(1, 1200)
    changed = waveform.copy()
    changed[:, 560:] = 0
    before, after = fbank(waveform, FbankConfig()), fbank(changed, FbankConfig())
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2] != after[:, 2]).numpy().all()


def test_triangles_by_hand():
    # mel(f) = 1127 ln(1 + f / 700) of 0, 1000, 2000, 3000 Hz, under a triangle from mel 0 by
    # half of mel(4000) = 2146.06 back to 0.
    top = 1127 * np.log(1 + 4000 / 700)
    mel = 1127 * np.log([1 + 1000 / 700, 1 + 2000 / 700, 1 + 3000 / 700])
    rising, falling = mel[:1] / (top / 2), (top - mel[1:]) / (top / 2)
    expected = [0, *rising, *falling, 0]
    np.testing.assert_allclose(expected, [0, 0.9320, 0.5830, 0.2520, 0], atol=2e-3)
    np.testing.assert_allclose(mel_weights(SMALL)[:, 0], expected, rtol=1e-5)


def test_triangles_overlap_so_that_every_frequency_between_counts_once():
    weights = mel_weights(FbankConfig(num_mels=10))
    first, last = weights[:, 0].argmax(), weights[:, -1].argmax()
    np.testing.assert_allclose(weights[first + 1 : last].sum(1), 1, rtol=1e-5)


def test_the_bin_of_half_the_sample_rate_has_no_weight():
    assert not mel_weights(FbankConfig())[256].any()


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)]
)
def test_frames_are_counted_as_kaldi_snips_edges(samples, frames):
    assert num_frames(tf.constant([samples]), FbankConfig()).numpy() == [frames]


def test_there_are_as_many_frames_as_counted():
    features = fbank(np.zeros([2, 16000 + 79], np.float32), FbankConfig(num_mels=4))
    assert features.shape == (2, 98, 4)
