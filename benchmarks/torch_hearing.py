"""PyTorch's Conformer from waveforms to symbols, in TorchScript, and as an ONNX file.

A worker of `benchmarks.inference`, for the interpreter of PyTorch's own environment. Filterbank,
model and the choice of the best symbols are one graph, traced for the very shape that is heard.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.peer_hearing import answer_hearing
from benchmarks.torch_conformer_step import Conformer, load_weights

_LENGTH, _SHIFT, _SIZE, _PREEMPHASIS = 400, 160, 512, 0.97


class Filterbank(nn.Module):
    """Kaldi's log-mel features of waveforms [B, T] at 16 kHz, [B, T', F].

    Pre-emphasis, window and Fourier transform are one product of matrices, the fastest form here.
    """

    def __init__(self, mels: NDArray[Any]) -> None:
        super().__init__()
        time, frequency = np.arange(_LENGTH), np.arange(_SIZE // 2)
        window = 32768 * (0.5 - 0.5 * np.cos(2 * np.pi * time / (_LENGTH - 1))) ** 0.85
        phase = 2 * np.pi / _SIZE * np.outer(time, frequency)
        waves = window[:, None] * np.stack([np.cos(phase), np.sin(phase)])
        waves[:, :-1] -= _PREEMPHASIS * waves[:, 1:]
        both = np.concatenate(list(waves), 1).astype(np.float32)
        self.register_buffer("waves", torch.from_numpy(both))
        self.register_buffer("mels", torch.from_numpy(mels))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        # A convolution would be slower, and unfold is not in ONNX.
        count = 1 + (waveforms.shape[1] - _LENGTH) // _SHIFT
        places = torch.arange(count)[:, None] * _SHIFT + torch.arange(_LENGTH)
        frames = waveforms[:, places]
        real, imaginary = ((frames - frames.mean(-1, keepdim=True)) @ self.waves).chunk(2, -1)
        return ((real**2 + imaginary**2) @ self.mels).clamp(min=1.1920929e-7).log()


class Recogniser(nn.Module):
    """Waveforms [B, T] to the best symbol of each frame, [B, T']."""

    def __init__(self, filterbank: Filterbank, model: Conformer, frames: NDArray[Any]) -> None:
        super().__init__()
        self.filterbank = filterbank
        self.model = model
        mean, deviation = (torch.from_numpy(row) for row in frames)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / deviation)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        features = (self.filterbank(waveforms) - self.mean) * self.scale
        return self.model(features).argmax(-1).transpose(0, 1)


def main() -> None:
    """FOLDER SAMPLES BATCH export FILE, or FOLDER SAMPLES BATCH THREADS CALLS NAME to answer."""
    folder, samples, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    calls = 1 if sys.argv[4] == "export" else int(sys.argv[5])
    shape = json.loads((folder / "shape.json").read_text())
    model = Conformer(shape, 0.0)
    load_weights(model, folder / "weights.npz")
    arrays = np.load(folder / "features.npz")
    recogniser = Recogniser(Filterbank(arrays["mels"]), model, arrays["statistics"]).eval()
    example = torch.zeros(batch // calls, samples)
    with torch.no_grad():
        if sys.argv[4] == "export":
            torch.onnx.export(recogniser, (example,), sys.argv[5], dynamo=False)
            return
        threads = int(sys.argv[4]) // calls
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        traced = torch.jit.optimize_for_inference(torch.jit.trace(recogniser, example))

        def symbols(waveforms: NDArray[Any]) -> NDArray[Any]:
            with torch.no_grad():
                best: NDArray[Any] = traced(torch.from_numpy(waveforms)).numpy()
            return best

        # Threads and gradients are settled for each thread of Python anew.
        begin = functools.partial(torch.set_num_threads, threads)
        answer_hearing(folder / f"batch-{batch}", sys.argv[6], symbols, calls, begin)


if __name__ == "__main__":
    main()
