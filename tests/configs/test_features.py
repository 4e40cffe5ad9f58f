import pytest

from tfasr.configs.features import AugmentConfig, FbankConfig, SpecAugmentConfig


@pytest.mark.parametrize(
    ("sample_rate", "length", "shift"), [(16000, 400, 160), (8000, 200, 80), (11025, 276, 110)]
)
def test_the_window_and_hop_are_rounded_to_samples(sample_rate, length, shift):
    config = FbankConfig(sample_rate=sample_rate)
    assert (config.frame_length, config.frame_shift) == (length, shift)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame_length_ms": 0.05}, "a frame must hold two samples.*frame_length_ms=0.05"),
        ({"frame_shift_ms": 0.01}, "its shift one; got .*frame_shift_ms=0.01.*sample_rate=16000"),
        ({"low_hz": 8000.0}, "low_hz must lie under half the sample rate; got low_hz=8000.0"),
        ({"low_hz": -1.0}, "got low_hz=-1.0, sample_rate=16000"),
    ],
)
def test_filterbank_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        FbankConfig(**settings)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_of_masked_frames_outside_0_to_1_is_named(share):
    with pytest.raises(
        ValueError, match=rf"time_share must be in \[0, 1\]; got time_share={share}"
    ):
        SpecAugmentConfig(time_share=share)


@pytest.mark.parametrize("speed", [(1.1, 0.9), (0.2, 1.0), (1.0, 4.1)])
def test_speeds_that_fall_or_leave_the_range_are_named(speed):
    with pytest.raises(ValueError, match=r"speed must rise within \[0.25, 4\]; got speed=\("):
        AugmentConfig(speed=speed)


def test_a_share_of_noisy_utterances_outside_0_to_1_is_named():
    with pytest.raises(ValueError, match=r"noise_share must be in \[0, 1\]; got noise_share=1.5"):
        AugmentConfig(noise_share=1.5)
