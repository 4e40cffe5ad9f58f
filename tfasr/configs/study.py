"""The layer study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Resets one block at a time and evaluates.

    Args:
        run: A trained run.
        data: A folder made by `tfasr prepare`.
        split: Which utterances.
        domains: Domains to evaluate on; empty means all that the data does not withhold.
        draws: Fresh draws of each block's weights, beside its weights of step 0.
        step: The run's checkpoint; 0 means the one with the lowest validation error rate.
        margin: A block is called ambient when the 95 % interval of its penalty ends under
            this share of words.
    """

    run: Path
    data: Path
    split: Literal["train", "valid", "test"] = "valid"
    domains: tuple[str, ...] = ()
    draws: int = 3
    step: int = 0
    margin: float = 0.02

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1; got draws={self.draws}")
        if self.margin <= 0:
            raise ValueError(f"margin must be positive; got margin={self.margin}")
