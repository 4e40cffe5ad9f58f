"""The whole flow in one command."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Runs every stage on synthetic speech; finished stages are not repeated.

    Args:
        work: Folder of everything that the stages write.
        preset: The YAML whose sections configure the stages.
        port: Where the exported model is served for one request; 0 takes any free port.
    """

    work: Path = Path("work/quickstart")
    preset: str = "quickstart"
    port: int = 0
