"""The steps of a model that hears streams, window by window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.serving.answers import Answer

START = "stream_start"
STREAM = "stream_step"
_SAID = ("text", "tokens")

State = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """What a step hears of one stream.

    Args:
        samples: float32 [T], at most a window; less at the end of the stream.
        state: As the last step gave it, a row of each tensor.
    """

    samples: NDArray[np.float32]
    state: State


class StreamSteps:
    """Calls the signatures `stream_start` and `stream_step`.

    Args:
        signatures: Of the loaded model.
        window: What export.json says: "samples" in a window, and the "shift" to the next one.

    Raises:
        ValueError: The signatures or the window are not as exported.
    """

    def __init__(self, signatures: Mapping[str, Any], window: Any) -> None:
        sizes: list[Any] = []
        if isinstance(window, dict):
            sizes = [window.get(name) for name in ("samples", "shift")]
        if (
            not sizes
            or any(type(size) is not int for size in sizes)
            or not 0 < sizes[1] <= sizes[0]
        ):
            raise ValueError(
                f"signature {STREAM} must have its window in export.json, with shift in "
                f"[1, samples]; got {window}"
            )
        self.samples, self.shift = map(int, sizes)
        self._start, self._step = signatures[START], signatures[STREAM]
        has = set(self._step.structured_input_signature[1])
        gives = set(self._step.structured_outputs)
        if not {"waveforms", "num_samples"} < has or not has - {"waveforms", "num_samples"} < gives:
            raise ValueError(f"signature {STREAM} must take waveforms, num_samples and its state")
        self.start()

    def start(self) -> State:
        """Returns the state of a stream before its first step."""
        state = self._start(streams=tf.constant(1, tf.int32))
        return {name: tensor.numpy()[0] for name, tensor in state.items()}

    def answers(self, windows: Sequence[Window]) -> list[Answer]:
        """Takes a step of each stream.

        Returns:
            An answer each: "text" since the start of the stream, and the next "state".
        """
        counts = np.array([len(window.samples) for window in windows], np.int32)
        waveforms = np.zeros((len(windows), self.samples), np.float32)
        for row, window in zip(waveforms, windows, strict=True):
            row[: len(window.samples)] = window.samples
        state = {
            name: tf.constant(np.stack([window.state[name] for window in windows]))
            for name in windows[0].state
        }
        outputs = self._step(
            waveforms=tf.constant(waveforms), num_samples=tf.constant(counts), **state
        )
        columns = {name: tensor.numpy() for name, tensor in outputs.items()}
        texts = [text.decode("utf-8", errors="replace") for text in columns["text"].tolist()]
        states = {name: column for name, column in columns.items() if name not in _SAID}
        return [
            {"text": text, "state": {name: column[row] for name, column in states.items()}}
            for row, text in enumerate(texts)
        ]
