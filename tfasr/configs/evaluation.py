"""Evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Word and character error rates with 95 % intervals.

    Args:
        data: A folder made by `tfasr prepare`.
        run: A run to evaluate; or give `model`.
        model: An exported model to evaluate; or give `run`.
        split: Which utterances.
        domains: Domains to evaluate on; empty means all.
        step: The run's checkpoint; 0 means the one with the lowest validation error rate.
        out: Folder for `evaluation.json` and `hypotheses.jsonl`; where it is not given, a
            folder named by data and split in the run's or model's folder.
    """

    data: Path
    run: Path | None = None
    model: Path | None = None
    split: Literal["train", "valid", "test"] = "test"
    domains: tuple[str, ...] = ()
    step: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        if (self.run is None) == (self.model is None):
            raise ValueError("one of --run and --model must be given, not both")
