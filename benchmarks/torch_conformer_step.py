"""The training step of a Conformer in PyTorch, of the same shape and weights as ours.

A worker of `benchmarks.training`, for the interpreter of PyTorch's own environment: a plain module
of PyTorch's own layers, Adam, and where it is asked for autocast to bfloat16 and `torch.compile`.
Lengths are those of full batches, so nothing is masked.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.step_workers import answer_steps


class FeedForward(nn.Module):
    """Half-step feed-forward module; x [B, T, D]."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(functional.silu(self.up(self.norm(x))))
        return self.dropout(self.down(y))


class Attention(nn.Module):
    """Self-attention with relative positions [2 T - 1, D]; x [B, T, D]."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.position = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.position_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.dropout = nn.Dropout(dropout)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor, sinusoids: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        query, key, value = (self.split(part(y)) for part in (self.query, self.key, self.value))
        position = self.split(self.position(sinusoids)[None])
        by_content = (query + self.content_bias[:, None]) @ key.transpose(-1, -2)
        by_distance = (query + self.position_bias[:, None]) @ position.transpose(-1, -2)
        batch, heads, frames, width = by_distance.shape
        rows = functional.pad(by_distance, (1, 0)).view(batch, heads, width + 1, frames)
        shifted = rows[:, :, 1:].reshape(batch, heads, frames, width)[..., :frames]
        scores = (by_content + shifted) * query.shape[-1] ** -0.5
        mixed = self.dropout(scores.float().softmax(-1).to(value.dtype)) @ value
        return self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))


class Convolution(nn.Module):
    """Convolution module; x [B, T, D]."""

    def __init__(self, dim: int, kernel: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.pointwise_in = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim, bias=False)
        self.depthwise_norm = nn.GroupNorm(groups, dim)
        self.pointwise_out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.border = ((kernel - 1) // 2, kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.glu(self.pointwise_in(self.norm(x))).transpose(1, 2)
        y = self.depthwise(functional.pad(y, self.border))
        y = functional.silu(self.depthwise_norm(y)).transpose(1, 2)
        return self.dropout(self.pointwise_out(y))


class Block(nn.Module):
    """Conformer block; x [B, T, D]."""

    def __init__(self, shape: dict[str, int], dropout: float) -> None:
        super().__init__()
        dim = shape["dim"]
        self.feed_forward_1 = FeedForward(dim, dropout)
        self.attention = Attention(dim, shape["heads"], dropout)
        self.convolution = Convolution(dim, shape["kernel"], shape["groups"], dropout)
        self.feed_forward_2 = FeedForward(dim, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor, sinusoids: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self.feed_forward_1(x)
        x = x + self.attention(x, sinusoids)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.feed_forward_2(x))


class Subsampling(nn.Module):
    """Subsampling by four; x [B, T, F] to [B, T / 4, D]."""

    def __init__(self, dim: int, mels: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(1, dim, 3, 2, padding=1)
        self.conv_2 = nn.Conv2d(dim, dim, 3, 2, padding=1)
        self.project = nn.Linear(-(-mels // 4) * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.conv_2(functional.relu(self.conv_1(x[:, None]))))
        return self.project(y.permute(0, 2, 3, 1).flatten(2))


class Conformer(nn.Module):
    """A Conformer with a CTC head; features [B, T, F] to log-probabilities [T', B, V + 1]."""

    def __init__(self, shape: dict[str, int], dropout: float) -> None:
        super().__init__()
        dim = shape["dim"]
        self.subsampling = Subsampling(dim, shape["mels"])
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape["blocks"]))
        self.head = nn.Linear(dim, shape["outputs"])
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.subsampling(features))
        sinusoids = positions(x.shape[1], x.shape[2]).to(x.dtype)
        for block in self.blocks:
            x = block(x, sinusoids)
        return self.head(x).float().log_softmax(-1).transpose(0, 1)


def positions(frames: int, dim: int) -> torch.Tensor:
    """Sinusoids of the distances T - 1 to -(T - 1), [2 T - 1, D]."""
    distance = torch.arange(frames - 1, -frames, -1, dtype=torch.float32)
    frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = distance[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def load_weights(model: nn.Module, path: Path) -> None:
    """Takes the weights of our model, saved by their places."""
    ours = dict(np.load(path))
    state = {}
    for name, value in model.state_dict().items():
        place, _, role = name.rpartition(".")
        names = (name, f"{place}.kernel", f"{place}.{'gamma' if role == 'weight' else 'beta'}")
        [key] = [one for one in names if one in ours][:1] or [f"{place}.{role}"]
        weight = torch.from_numpy(ours.pop(key))
        if value.dim() == 4:
            weight = weight.permute(3, 2, 0, 1)
        elif value.dim() == 3:
            weight = weight.T[:, None]
        elif key.endswith("kernel"):
            weight = weight.T
        state[name] = weight.contiguous()
    if ours:
        raise ValueError(f"every weight must have a place; got none for {', '.join(ours)}")
    model.load_state_dict(state)


def main() -> None:
    """Answers with the steps of a batch: FOLDER PRECISION eager|compiled COMPILED.

    What is compiled is kept in the folder COMPILED.
    """
    folder, precision, mode, compiled = Path(sys.argv[1]), *sys.argv[2:5]
    shape = json.loads((folder / "shape.json").read_text())
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled
    torch.manual_seed(0)
    model = Conformer(shape, shape["dropout"])
    load_weights(model, folder / "weights.npz")
    features = torch.from_numpy(np.load(folder / "features.npy"))
    tokens = torch.from_numpy(np.load(folder / "tokens.npy")).long()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, (0.9, 0.98), 1e-9)
    half = torch.autocast("cpu", torch.bfloat16)
    casting = half if precision == "bfloat16" else contextlib.nullcontext()
    called = torch.compile(model) if mode == "compiled" else model

    def loss_of(network: nn.Module) -> torch.Tensor:
        with casting:
            scores = network(features)
        frames, length = (torch.full(tokens.shape[:1], n) for n in (len(scores), tokens.shape[1]))
        blank = shape["outputs"] - 1
        return functional.ctc_loss(scores, tokens, frames, length, blank, "none").mean()

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(called)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def reference() -> float:
        load_weights(model, folder / "weights.npz")
        model.eval()
        with torch.no_grad():
            return loss_of(model).item()

    answer_steps(sum(p.numel() for p in model.parameters()), step, reference)


if __name__ == "__main__":
    main()
