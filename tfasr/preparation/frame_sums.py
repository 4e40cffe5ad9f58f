"""Sums over feature frames, from which their mean and deviation follow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bins that never vary, such as those above a telephone's band, are not blown up.
_LEAST_DEVIATION = 1e-2


class FrameSums:
    """Counts, sums and squares of frames; those of shards add up to those of a corpus.

    Args:
        num_mels: Bins F of a frame.
    """

    def __init__(self, num_mels: int) -> None:
        self.count = 0
        self.sum = np.zeros(num_mels)
        self.squares = np.zeros(num_mels)

    def add(self, frames: NDArray[np.float64]) -> None:
        """Adds frames [T, F]."""
        self.count += len(frames)
        self.sum += frames.sum(0)
        self.squares += (frames**2).sum(0)

    def merge(self, values: dict[str, Any]) -> None:
        """Adds what `to_json` of other sums gave."""
        self.count += values["count"]
        self.sum += values["sum"]
        self.squares += values["squares"]

    def to_json(self) -> dict[str, Any]:
        """The sums, as JSON holds them without loss."""
        return {"count": self.count, "sum": list(self.sum), "squares": list(self.squares)}

    def statistics(self) -> dict[str, Any]:
        """Number of frames, mean [F] and deviation [F] of at least one frame."""
        mean = self.sum / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
        return {"frames": self.count, "mean": list(mean), "deviation": list(deviation)}
