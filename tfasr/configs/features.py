"""Filterbank, SpecAugment and waveform augmentation."""

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FbankConfig:
    """Kaldi's log-mel filterbank.

    Args:
        sample_rate: In hertz.
        num_mels: Mel bins F.
        frame_length_ms: Window, in milliseconds.
        frame_shift_ms: Hop, in milliseconds.
        low_hz: Lower edge of the first triangle; the last one ends at half the sample rate.
        preemphasis: Coefficient of the first-order high-pass.
    """

    sample_rate: int = 16000
    num_mels: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    low_hz: float = 20.0
    preemphasis: float = 0.97

    def __post_init__(self) -> None:
        if self.num_mels < 1:
            raise ValueError(f"num_mels must be at least 1; got num_mels={self.num_mels}")
        if self.frame_length < 2 or self.frame_shift < 1:
            raise ValueError(
                "a frame must hold two samples and its shift one; "
                f"got frame_length_ms={self.frame_length_ms}, frame_shift_ms={self.frame_shift_ms}"
                f" at sample_rate={self.sample_rate}"
            )
        if not 0 <= self.low_hz < self.sample_rate / 2:
            raise ValueError(
                "low_hz must lie under half the sample rate; "
                f"got low_hz={self.low_hz}, sample_rate={self.sample_rate}"
            )

    @property
    def frame_length(self) -> int:
        """The window in samples."""
        return round(self.sample_rate * self.frame_length_ms / 1000)

    @property
    def frame_shift(self) -> int:
        """The hop in samples."""
        return round(self.sample_rate * self.frame_shift_ms / 1000)


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """Warped and masked features. The defaults are the Deep Sparse Conformer's (section 4.2).

    Args:
        frequency_masks: Masks over mel bins.
        frequency_width: Widest such mask, in bins.
        time_masks: Masks over frames.
        time_width: Widest such mask, in frames.
        time_share: A time mask covers at most this share of its utterance's frames.
        time_warp: A point of the utterance is moved by at most so many frames, and what lies
            on either side stretched to follow; 0 leaves time as it is. An utterance of no
            more than twice as many frames is not warped.
    """

    frequency_masks: int = 2
    frequency_width: int = 10
    time_masks: int = 2
    time_width: int = 50
    time_share: float = 1.0
    time_warp: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.time_share <= 1:
            raise ValueError(f"time_share must be in [0, 1]; got time_share={self.time_share}")
        for name in (
            "frequency_masks",
            "frequency_width",
            "time_masks",
            "time_width",
            "time_warp",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; got {name}={getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Changes to training waveforms; every range is drawn from uniformly, per utterance.

    Args:
        speeds: Playback speeds, of which one is drawn; pitch follows. Each has at most two
            decimals. (1,) leaves it. The default is that of Ko et al. (2015), "Audio
            augmentation for speech recognition", section 3.
        gain_db: Lowest and highest gain, in dB.
        noise_share: Share of the utterances that are given noise, in [0, 1].
        noise_snr_db: Lowest and highest signal-to-noise ratio of added noise, in dB.
        noise_folder: Recordings of noise; where it is not given, noise between white and
            brown is made.
        reverb_share: Share of the utterances that are put into a room, in [0, 1].
        reverb_seconds: Shortest and longest time in which a room that is made falls silent by
            60 dB, in seconds.
        reverb_folder: Recorded impulse responses of rooms; where it is not given, they are
            made.
        tilt_db: Largest gain of a random smooth channel response, in dB; 0 is a flat channel.
        band_share: Share of the utterances that lose what a telephone or a cheap microphone
            does not carry, in [0, 1].
        band_low_hz: Lowest and highest lower edge of what is left, in hertz.
        band_high_hz: Lowest and highest upper edge of what is left, in hertz.
        codec_share: Share of the utterances that are sent through 8-bit mu-law, as over a
            telephone line, in [0, 1].
        dither: Standard deviation of white noise on the 16-bit scale, as in Kaldi.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    gain_db: tuple[float, float] = (-6.0, 6.0)
    noise_share: float = 0.0
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    noise_folder: Path | None = None
    reverb_share: float = 0.0
    reverb_seconds: tuple[float, float] = (0.1, 0.6)
    reverb_folder: Path | None = None
    tilt_db: float = 0.0
    band_share: float = 0.0
    band_low_hz: tuple[float, float] = (100.0, 400.0)
    band_high_hz: tuple[float, float] = (3000.0, 7000.0)
    codec_share: float = 0.0
    dither: float = 1.0

    def __post_init__(self) -> None:
        self._check_speeds()
        for name in ("noise_share", "reverb_share", "band_share", "codec_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {name}={getattr(self, name)}")
        for name, least in (
            ("gain_db", -math.inf),
            ("noise_snr_db", -math.inf),
            ("reverb_seconds", 0.01),
            ("band_low_hz", 0.0),
            ("band_high_hz", 0.0),
        ):
            low, high = getattr(self, name)
            if not least <= low <= high < math.inf:
                bound = "" if least == -math.inf else f" from {least} on"
                raise ValueError(f"{name} must rise{bound}; got {name}={(low, high)}")
        if not self.band_low_hz[1] < self.band_high_hz[0]:
            raise ValueError(
                "band_low_hz must end under band_high_hz; "
                f"got band_low_hz={self.band_low_hz}, band_high_hz={self.band_high_hz}"
            )
        for name in ("tilt_db", "dither"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0; got {name}={getattr(self, name)}")
        for kind in ("noise", "reverb"):
            folder, share = getattr(self, f"{kind}_folder"), getattr(self, f"{kind}_share")
            if folder is not None and not share:
                raise ValueError(
                    f"{kind}_folder must come with a {kind}_share above 0, or nothing is drawn "
                    f"from it; got {kind}_folder={folder}, {kind}_share={share}"
                )

    def _check_speeds(self) -> None:
        if not self.speeds:
            raise ValueError("speeds must hold at least one, 1 for no change; got speeds=()")
        for speed in self.speeds:
            if not 0.5 <= speed <= 2:
                raise ValueError(f"speeds must be in [0.5, 2]; got speeds={self.speeds}")
            # The resampling filter has as many phases as the denominator.
            if round(speed, 2) != speed:
                raise ValueError(f"speeds must have at most two decimals; got speeds={self.speeds}")


# Park et al. (2019) as Gulati et al. (2020), section 3.1, uses it.
SPEC_AUGMENT_CONFORMER = SpecAugmentConfig(
    frequency_masks=2, frequency_width=27, time_masks=10, time_width=10_000, time_share=0.05
)
