"""Long recordings in parts, cut where they are quietest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.decoding import Recording, Samples, to_rate

# A part is cut in the middle of its quietest stretch so long, found to so many seconds.
_PAUSE_SECONDS = 0.3
_STEP_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A part of a recording.

    Args:
        start: Seconds of the recording before it.
        samples: int16 [T] at the recording's rate, channels averaged.
    """

    start: float
    samples: NDArray[np.int16]


def parts_at_pauses(recording: Recording, *, max_seconds: float) -> Iterator[Part]:
    """Reads a recording part by part, one in memory at a time.

    A part is cut where the second half of what it may be is quietest, so that a word is cut only
    where speech goes on for so long without a pause.

    Args:
        recording: Open.
        max_seconds: Longest part, in seconds; one sample at least.

    Yields:
        Parts that together are the whole recording.

    Raises:
        CorpusError: As for `Recording.read`.
    """
    longest = max(1, int(max_seconds * recording.rate))
    start = 0
    while start < recording.num_samples:
        stop = min(start + longest, recording.num_samples)
        samples = recording.read(start=start, stop=stop)
        # An estimate of the length may be too high.
        is_last = stop == recording.num_samples or len(samples) < stop - start
        count = len(samples) if is_last else _quietest(samples, recording.rate)
        yield Part(
            start=start / recording.rate,
            samples=to_rate(samples[:count], recording.rate, recording.rate),
        )
        if is_last:
            return
        start += count


def _quietest(samples: Samples, rate: int) -> int:
    """Finds the middle of the quietest stretch of the second half; of equals the last."""
    half = len(samples) // 2
    step = max(1, round(_STEP_SECONDS * rate))
    steps = (len(samples) - half) // step
    stretch = min(round(_PAUSE_SECONDS / _STEP_SECONDS), steps)
    if not stretch:
        return len(samples)
    tail = samples[len(samples) - steps * step :].astype(np.float64)
    energy = np.square(tail).reshape(steps, step).sum(axis=1)
    # Sums of whole numbers, so that stretches of equal energy are equal.
    sums = np.cumsum(np.concatenate([[0.0], np.rint(energy)]))
    of_stretch = sums[stretch:] - sums[:-stretch]
    first = len(of_stretch) - 1 - int(np.argmin(of_stretch[::-1]))
    return len(samples) - (steps - first) * step + stretch * step // 2
