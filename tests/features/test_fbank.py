import kaldi_native_fbank
import numpy as np
import pytest
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view

from tfasr.configs.features import FbankConfig
from tfasr.features.fbank import INT16_SCALE, fbank, mel_weights, num_frames, unquantised

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


def float64_fbank(samples, config):
    """Kaldi's filterbank step by step in float64; only the triangles are the package's."""
    length = config.frame_length
    frames = sliding_window_view(samples.astype(np.float64), length)[:: config.frame_shift]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    windowed = (frames - config.preemphasis * before) * hann**0.85
    spectrum = np.fft.rfft(windowed, 1 << (length - 1).bit_length())[:, :-1]
    return np.log(np.maximum(np.abs(spectrum) ** 2 @ mel_weights(config), 2.0**-23))


def tone(hertz, sample_rate, seconds=0.5):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * sample_rate)) / sample_rate)


def pcm(*parts):
    return np.clip(np.round(np.concatenate(parts)), -32768, 32767).astype(np.float32)


def recording(noise, sample_rate):
    """Half a second each of noise, a tone in a room, silence, a constant and a flipping bit."""
    half = sample_rate // 2
    return pcm(
        8000 * noise(half),
        10000 * tone(440, sample_rate) + 100 * noise(half),
        np.zeros(half),
        np.full(half, 7),
        np.sign(noise(half, seed=1)) * (noise(half, seed=2) > 1),
    )


@pytest.mark.parametrize(("sample_rate", "num_mels"), [(16000, 80), (8000, 40)])
def test_features_are_kaldis(noise, sample_rate, num_mels):
    config = FbankConfig(sample_rate=sample_rate, num_mels=num_mels)
    samples = recording(noise, sample_rate)
    ours = fbank(samples[None] / INT16_SCALE, config)[0]
    # Kaldi's float32 rounds differently where a band is quiet beside a loud one.
    np.testing.assert_allclose(ours, kaldi_fbank(samples, config), atol=1e-3)


# The hop of the last shares no factor with its window: 220 and 551 samples.
@pytest.mark.parametrize(
    "config",
    [
        FbankConfig(),
        FbankConfig(sample_rate=8000, num_mels=40),
        FbankConfig(num_mels=23, frame_length_ms=32, frame_shift_ms=8, low_hz=60),
        FbankConfig(sample_rate=22050, num_mels=64, preemphasis=0.9),
    ],
    ids=["default", "telephone", "window of a power of two", "coprime hop"],
)
def test_features_are_those_of_float64(noise, config):
    samples = recording(noise, config.sample_rate)
    ours = fbank(samples[None] / INT16_SCALE, config)[0]
    # A band that happens to be quiet beside the tone feels float32's rounding of the tone.
    np.testing.assert_allclose(ours, float64_fbank(samples, config), atol=2e-4)


@pytest.mark.parametrize("hertz", [100, 440, 1003, 3003, 7500])
def test_bands_of_one_bit_noise_beside_a_full_scale_tone_are_right_to_a_fiftieth(noise, hertz):
    samples = pcm(32000 * tone(hertz, 16000) + noise(8000))
    ours = fbank(samples[None] / INT16_SCALE, FbankConfig())[0]
    # 90 dB under the tone, where Kaldi is off by up to a half.
    np.testing.assert_allclose(ours, float64_fbank(samples, FbankConfig()), atol=2e-2)


def test_a_constant_is_silence():
    features = fbank(np.full([1, 400], 20000 / INT16_SCALE, np.float32), FbankConfig())
    np.testing.assert_allclose(features, np.full([1, 1, 80], np.log(2.0**-23)), rtol=1e-6)


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


def test_padding_and_neighbours_change_no_frame(noise):
    waveforms = 0.1 * noise(3, 2000)
    waveforms[1, 1200:] = 0
    together = fbank(waveforms, FbankConfig())
    alone = fbank(waveforms[1:2, :1200], FbankConfig())
    np.testing.assert_allclose(together[1:2, :6], alone, atol=1e-5)


def test_a_graph_gives_what_eager_gives(noise):
    waveforms = 0.1 * noise(2, 1200)
    traced = tf.function(
        lambda waveforms: fbank(waveforms, FbankConfig()),
        input_signature=[tf.TensorSpec([None, None])],
    )
    np.testing.assert_allclose(traced(waveforms), fbank(waveforms, FbankConfig()), atol=1e-5)


def test_a_graph_holds_no_matrix_but_the_triangles():
    traced = tf.function(lambda waveforms: fbank(waveforms, FbankConfig()))
    graph = traced.get_concrete_function(tf.TensorSpec([None, None])).graph
    # Triangles of 82 kB; the two matrices of the transform would be 819 kB.
    assert graph.as_graph_def().ByteSize() < 110_000


def test_triangles_by_hand():
    # mel(f) = 1127 ln(1 + f / 700) of 0, 1000, 2000, 3000 Hz, under a triangle from mel 0 by
    # half of mel(4000) = 2146.06 back to 0. There is no bin of 4000 Hz.
    top = 1127 * np.log(1 + 4000 / 700)
    mel = 1127 * np.log([1 + 1000 / 700, 1 + 2000 / 700, 1 + 3000 / 700])
    rising, falling = mel[:1] / (top / 2), (top - mel[1:]) / (top / 2)
    expected = [0, *rising, *falling]
    np.testing.assert_allclose(expected, [0, 0.9320, 0.5830, 0.2520], atol=2e-3)
    np.testing.assert_allclose(mel_weights(SMALL)[:, 0], expected, rtol=1e-5)


def test_triangles_overlap_so_that_every_frequency_between_counts_once():
    weights = mel_weights(FbankConfig(num_mels=10))
    first, last = weights[:, 0].argmax(), weights[:, -1].argmax()
    np.testing.assert_allclose(weights[first + 1 : last].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)]
)
def test_frames_are_counted_as_kaldi_snips_edges(samples, frames):
    assert num_frames(tf.constant([samples]), FbankConfig()).numpy() == [frames]


def test_there_are_as_many_frames_as_counted():
    features = fbank(np.zeros([2, 16000 + 79], np.float32), FbankConfig(num_mels=4))
    assert features.shape == (2, 98, 4)


def as_int8(samples):
    """The filterbank of a LiteRT model whose kernels have 8 bits."""
    config = FbankConfig()

    @tf.function(input_signature=[tf.TensorSpec([1, len(samples)])], autograph=False)
    def features(waveforms):
        with unquantised():
            return fbank(waveforms, config)

    function = features.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], samples[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def test_a_quiet_tone_beside_a_loud_one_is_there_in_a_model_of_8_bits():
    samples = (0.5 * tone(200, 16000) + 1e-4 * tone(5000, 16000)).astype(np.float32)
    expected = fbank(samples[None], FbankConfig())[0]
    np.testing.assert_allclose(as_int8(samples), expected, atol=1e-2)
