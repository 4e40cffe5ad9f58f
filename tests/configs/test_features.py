from pathlib import Path

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


@pytest.mark.parametrize("name", ["frequency_masks", "time_width", "time_warp"])
def test_counts_and_widths_of_masks_below_0_are_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0; got {name}=-1"):
        SpecAugmentConfig(**{name: -1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speeds": ()}, r"speeds must hold at least one, 1 for no change; got speeds=\(\)"),
        ({"speeds": (0.4, 1.0)}, r"speeds must be in \[0.5, 2\]; got speeds=\(0.4, 1.0\)"),
        ({"speeds": (2.1,)}, r"got speeds=\(2.1,\)"),
        ({"speeds": (0.933,)}, r"speeds must have at most two decimals; got speeds=\(0.933,\)"),
        ({"noise_share": 1.5}, r"noise_share must be in \[0, 1\]; got noise_share=1.5"),
        ({"codec_share": -0.1}, r"codec_share must be in \[0, 1\]; got codec_share=-0.1"),
        ({"gain_db": (3.0, -3.0)}, r"gain_db must rise; got gain_db=\(3.0, -3.0\)"),
        ({"noise_snr_db": (9.0, float("nan"))}, r"noise_snr_db must rise; got .*nan"),
        ({"reverb_seconds": (0.0, 0.5)}, r"reverb_seconds must rise from 0.01 on; got .*\(0.0, "),
        ({"band_low_hz": (100.0, 3000.0)}, "band_low_hz must end under band_high_hz; got band_lo"),
        ({"tilt_db": -1.0}, "tilt_db must be at least 0; got tilt_db=-1.0"),
        ({"dither": float("nan")}, "dither must be at least 0; got dither=nan"),
        (
            {"noise_folder": Path("musan")},
            "noise_folder must come with a noise_share above 0.*noise_folder=musan, noise_share=0",
        ),
        ({"reverb_folder": Path("rirs")}, "reverb_folder must come with a reverb_share above 0"),
    ],
)
def test_augmentation_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**settings)


@pytest.mark.parametrize("speed", [0.5, 0.57, 0.95, 1, 1.01, 1.15, 1.99, 2.0])
def test_speeds_of_two_decimals_are_taken(speed):
    assert AugmentConfig(speeds=(speed,)).speeds == (speed,)
