"""What a peer does around its model to come from WAV bytes to text.

Needs nothing but NumPy and the standard library, for a peer's environment has nothing of ours.
"""

import io
import json
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.step_workers import answer_steps

Symbols = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def answer_hearing(
    folder: Path,
    name: str,
    symbols: Symbols,
    calls: int,
    begin_thread: Callable[[], None] = lambda: None,
) -> None:
    """Answers with the hearing of the case's WAV files, and writes what was heard to NAME.txt.

    Args:
        folder: The case: `0.wav` and so on, and `pieces.json`.
        name: Of the peer.
        symbols: From waveforms [B, T] in [-1, 1] to the best symbol of each frame, [B, T'].
        calls: Of `symbols` at once, each with an equal part of the files.
        begin_thread: Called first in the thread of each.
    """
    wavs = [path.read_bytes() for path in sorted(folder.glob("*.wav"))]
    pieces = json.loads((folder / "pieces.json").read_text())

    shares = np.array_split(np.arange(len(wavs)), calls)

    def texts_of(share: NDArray[np.int64]) -> list[str]:
        best = symbols(np.stack([_samples(wavs[place]) for place in share]))
        return [text_of(row, pieces) for row in best]

    pool = ThreadPoolExecutor(calls, initializer=begin_thread)

    def step() -> float:
        texts = [text for part in pool.map(texts_of, shares) for text in part]
        (folder / f"{name}.txt").write_text("\n".join(texts))
        return 0.0

    answer_steps(0, step)


def _samples(wav: bytes) -> NDArray[np.float32]:
    with wave.open(io.BytesIO(wav)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return pcm.astype(np.float32) / np.float32(32768)


def text_of(symbols: NDArray[np.int64], pieces: list[str]) -> str:
    """Collapses a greedy path; the blank is the symbol behind the pieces."""
    new = symbols[np.concatenate([[True], symbols[1:] != symbols[:-1]])]
    text = "".join(pieces[symbol] for symbol in new if symbol < len(pieces))
    return text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip()
