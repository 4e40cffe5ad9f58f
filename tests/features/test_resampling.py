import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import resample_poly

from tfasr.features.resampling import resample


@pytest.fixture(scope="module")
def resampled():
    """One graph for all rates, by the rate of the result."""
    return {
        wanted: tf.function(
            lambda x, rate, wanted=wanted: resample(x, rate, wanted),
            input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)],
            autograph=False,
        )
        for wanted in (8000, 16000)
    }


@pytest.mark.parametrize("wanted", [8000, 16000])
@pytest.mark.parametrize(
    "rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000]
)
def test_one_graph_gives_what_scipy_does_at_every_rate(resampled, noise, rate, wanted):
    common = np.gcd(rate, wanted)
    for samples in (1, 2, 441, 3000):
        x = noise(samples)
        expected = resample_poly(x.astype(np.float64), wanted // common, rate // common)
        got = resampled[wanted](x, rate)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_a_tone_keeps_its_pitch_and_level(resampled):
    time = np.arange(48000) / 48000
    got = resampled[16000](np.sin(2 * np.pi * 1000 * time).astype(np.float32), 48000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    # The filter's ripple is a thousandth; at the ends it sees silence.
    np.testing.assert_allclose(got[100:-100], expected[100:-100], atol=2e-3)


def test_no_samples_stay_none(resampled):
    assert resampled[16000](np.zeros(0, np.float32), 44100).shape == (0,)


def test_a_rate_without_a_common_divisor_is_refused(resampled):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"common sample rate.*7999"):
        resampled[16000](np.zeros(9, np.float32), 7999)
