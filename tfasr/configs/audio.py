"""How recordings are read."""

import math
from dataclasses import dataclass
from typing import Literal

Channel = Literal["mix", "left", "right"]


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Recordings in any format that libsndfile knows, and raw PCM.

    Args:
        channel: Of a recording with several: "mix" averages them, "left" and "right" take the
            first and the second. A mono recording has a left channel and no right one.
        raw_rate: Sample rate of `.raw` and `.pcm` files, which have no header, in hertz.
        raw_encoding: Their samples, little-endian.
        raw_channels: Their channels, interleaved.
        longest_seconds: A longer utterance is unusable: it is not speech of one turn, and a
            batch could not hold it. Parts of a longer recording may be utterances.
    """

    channel: Channel = "mix"
    raw_rate: int = 16000
    raw_encoding: Literal["s16", "s24", "s32", "f32", "ulaw", "alaw"] = "s16"
    raw_channels: int = 1
    longest_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("raw_rate", "raw_channels", "longest_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive; got {name}={getattr(self, name)}")
        if not math.isfinite(self.longest_seconds):
            raise ValueError(
                f"longest_seconds must be finite; got longest_seconds={self.longest_seconds}"
            )
