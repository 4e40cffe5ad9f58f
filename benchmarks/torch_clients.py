"""What a client of `benchmarks.federated` has and does, for peers on PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def read_case(folder: Path) -> dict[str, Any]:
    """Reads the model's shape, and how clients train it."""
    case: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    return case


def client_tensors(folder: Path, client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads a client's features [steps, B, T, F] and tokens [steps, B, U]."""
    features, tokens = (
        torch.from_numpy(np.load(folder / f"{client:05d}-{name}.npy"))
        for name in ("features", "tokens")
    )
    return features, tokens.long()


def client_loss(model: nn.Module, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Gives the mean CTC loss of a batch of full utterances, the last output being the blank."""
    scores = model(features)  # [T', B, V + 1]
    frames, length = (torch.full(tokens.shape[:1], n) for n in (len(scores), tokens.shape[1]))
    return functional.ctc_loss(scores, tokens, frames, length, scores.shape[-1] - 1, "none").mean()
