"""Description of a model."""

from dataclasses import dataclass, field
from pathlib import Path

from tfasr.configs.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class DescribeConfig:
    """Blocks and modules of a model; allocates no weights.

    Args:
        model: The model; `--config` takes it from a preset or a YAML.
        run: Takes the model of a run instead.
        json: Prints a JSON object.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    run: Path | None = None
    json: bool = False
