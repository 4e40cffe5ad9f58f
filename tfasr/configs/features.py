"""Filterbank, SpecAugment and waveform augmentation."""

from dataclasses import dataclass


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
    """Masks over features. The defaults are the Deep Sparse Conformer's (section 4.2).

    Args:
        frequency_masks: Masks over mel bins.
        frequency_width: Widest such mask, in bins.
        time_masks: Masks over frames.
        time_width: Widest such mask, in frames.
        time_share: A time mask covers at most this share of its utterance's frames.
    """

    frequency_masks: int = 2
    frequency_width: int = 10
    time_masks: int = 2
    time_width: int = 50
    time_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.time_share <= 1:
            raise ValueError(f"time_share must be in [0, 1]; got time_share={self.time_share}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Changes to training waveforms; every range is drawn from uniformly, per utterance.

    Args:
        speed: Lowest and highest playback speed; pitch follows. (1, 1) leaves it.
        gain_db: Lowest and highest gain, in dB.
        noise_snr_db: Lowest and highest signal-to-noise ratio of added noise, in dB.
        noise_share: Share of the utterances that are given noise, in [0, 1].
        tilt_db: Largest gain of a random smooth channel response, in dB; 0 is a flat channel.
        dither: Standard deviation of white noise on the 16-bit scale, as in Kaldi.
    """

    speed: tuple[float, float] = (0.9, 1.1)
    gain_db: tuple[float, float] = (-6.0, 6.0)
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    noise_share: float = 0.0
    tilt_db: float = 0.0
    dither: float = 1.0

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed[0] <= self.speed[1] <= 4:
            raise ValueError(f"speed must rise within [0.25, 4]; got speed={self.speed}")
        if not 0 <= self.noise_share <= 1:
            raise ValueError(f"noise_share must be in [0, 1]; got noise_share={self.noise_share}")


# Park et al. (2019) as Gulati et al. (2020), section 3.1, uses it.
SPEC_AUGMENT_CONFORMER = SpecAugmentConfig(
    frequency_masks=2, frequency_width=27, time_masks=10, time_width=10_000, time_share=0.05
)
