"""Export."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Which blocks of the exported model are constants of its graph.

    Args:
        blocks: The so many most ambient blocks of the ranking.
        ranking: The ranking's file; where it is not given, `study/ranking.json` of the run.
    """

    blocks: int = 0
    ranking: Path | None = None

    def __post_init__(self) -> None:
        if self.blocks < 0:
            raise ValueError(f"freeze.blocks must be at least 0; got {self.blocks}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes a SavedModel that TensorFlow Serving loads as it is.

    Args:
        run: A trained run.
        out: The model's folder, such as saved_models/NAME; a new version is made in it.
        freeze: Which blocks become constants.
        step: The run's checkpoint; 0 means the one with the lowest validation error rate.
    """

    run: Path
    out: Path
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    step: int = 0
