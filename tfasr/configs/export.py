"""Export."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Form = Literal["constant", "seed", "pruned", "int8"]


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Which blocks of the exported model are frozen, and as what.

    Args:
        blocks: The so many most ambient blocks of the ranking.
        margin: Or all blocks whose penalty's 95 % interval ends under this share of words; 0
            goes by `blocks`.
        as_: What becomes of them. "constant": their weights are constants of the graph. "seed":
            they are reset to fresh weights, which the model draws anew whenever it is loaded; the
            files hold none of theirs. "pruned": they are left out, but for the norm that ends
            their residual path. "int8": their kernels are kept in 8 bits with a scale for each
            output channel, and turned into floats when the model is loaded.
        draw: Which fresh weights "seed" takes, by the study's numbers: 1 for its first draw; 0
            for those of step 0.
        ranking: The ranking's file; where it is not given, `study/ranking.json` of the run.
    """

    blocks: int = 0
    margin: float = 0.0
    as_: Form = "constant"
    draw: int = 1
    ranking: Path | None = None

    def __post_init__(self) -> None:
        for name in ("blocks", "draw"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"freeze.{name} must be at least 0; got {name}={getattr(self, name)}"
                )
        if not 0 <= self.margin < 1:
            raise ValueError(f"freeze.margin must be in [0, 1); got margin={self.margin}")
        if self.blocks and self.margin:
            raise ValueError(
                "blocks to freeze are chosen by freeze.blocks or by freeze.margin, not both; got "
                f"blocks={self.blocks}, margin={self.margin}"
            )
        if self.draw != 1 and self.as_ != "seed":
            raise ValueError(
                f"freeze.draw is for freeze.as seed; got draw={self.draw}, as={self.as_}"
            )

    @property
    def asked(self) -> bool:
        """Whether any block is to be frozen."""
        return bool(self.blocks or self.margin)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes a SavedModel that TensorFlow Serving loads as it is.

    Args:
        run: A trained run.
        out: The model's folder, such as saved_models/NAME; a new version is made in it.
        freeze: Which blocks are frozen, and as what.
        step: The run's checkpoint; 0 means the one with the lowest validation error rate.
    """

    run: Path
    out: Path
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    step: int = 0
