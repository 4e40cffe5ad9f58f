"""The Conformer of `benchmarks.torch_conformer_step` in TorchScript, from features to logits.

A worker of `benchmarks.serving`, for the interpreter of PyTorch's own environment: traced, frozen
and optimised for inference. `python -m benchmarks.torch_conformer_script FOLDER THREADS`
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.step_workers import answer_steps
from benchmarks.torch_conformer_step import Conformer, load_weights, positions


class Hearing(torch.nn.Module):
    """Features [B, T, F] to logits [B, T', V + 1]."""

    def __init__(self, model: Conformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.model.subsampling(features)
        sinusoids = positions(x.shape[1], x.shape[2])
        for block in self.model.blocks:
            x = block(x, sinusoids)
        return self.model.head(x)


def main() -> None:
    """Answers with the logits of one utterance."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    model = Conformer(json.loads((folder / "shape.json").read_text()), 0.0)
    load_weights(model, folder / "weights.npz")
    features = torch.from_numpy(np.load(folder / "features.npy")[:1])
    with torch.inference_mode():
        traced = torch.jit.trace(Hearing(model).eval(), features)
        called = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        for _ in range(2):
            # The profiling executor optimises on the second call.
            called(features)
        answer_steps(0, lambda: float(called(features).abs().sum()))


if __name__ == "__main__":
    main()
