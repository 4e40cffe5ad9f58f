"""Environments of the programs that ours is measured beside, made when they are missing."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A program with an environment of its own.

    Args:
        folder: Of the environment, among those of other peers.
        module: What is imported to see whether it is there; several by commas.
        packages: What is installed, with versions.
    """

    folder: str
    module: str
    packages: tuple[str, ...]

    def python(self, peers: Path) -> str | None:
        """Gives the environment's interpreter, after an attempt to make it; None where that fails.

        Args:
            peers: Folder of all peers' environments.
        """
        environment = peers / self.folder
        python = str(environment / "bin" / "python")
        attempt = [python, "-c", f"import {self.module}"]
        if Path(python).exists() and not subprocess.run(attempt, capture_output=True).returncode:
            return python
        make = [sys.executable, "-m", "venv", str(environment)]
        install = [python, "-m", "pip", "install", "--quiet", *self.packages]
        done = not any(subprocess.run(command).returncode for command in (make, install))
        return python if done else None


TORCH = Peer(folder="torch", module="torch, onnx", packages=("torch==2.13.0", "onnx==1.19.0"))
ONNXRUNTIME = Peer(
    folder="onnxruntime", module="onnxruntime", packages=("onnxruntime==1.23.2", "numpy==2.3.5")
)
TENSORFLOWASR = Peer(
    folder="tensorflowasr",
    module="tensorflow_asr",
    packages=(
        "TensorFlowASR==2.1.0",
        "tensorflow==2.14.1",
        "tensorflow-text==2.14.0",
        "numpy==1.26.4",
    ),
)
PFL = Peer(folder="pfl", module="pfl, torch", packages=("pfl==0.6.0", *TORCH.packages))
FLOWER = Peer(
    folder="flwr",
    module="flwr, ray, torch",
    packages=("flwr[simulation]==1.41.0", *TORCH.packages),
)
