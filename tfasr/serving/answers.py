"""What a model gives for one utterance, apart from the batch that it was heard in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# "text", where there is one, is a string; whatever else the model gives is a NumPy scalar or an
# array of its own length, without the padding of the batch.
Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An utterance and what the model gave for it.

    Args:
        answer: The outputs.
        seconds: How long the utterance is.
    """

    answer: Answer
    seconds: float

    @property
    def text(self) -> str:
        """What was said."""
        return str(self.answer["text"])


# Tokens, seconds and frames count from zero, so this is none of them.
PADDING = -1


def split_batch(outputs: Mapping[str, NDArray[Any]]) -> list[Answer]:
    """Parts the outputs of one call into those of its utterances.

    Args:
        outputs: [B] or [B, ...] each, among them "text"; rows that are shorter than others end
            in negative numbers, NaN or empty strings.

    Returns:
        An answer per row.
    """
    texts = outputs["text"]
    answers: list[Answer] = [
        {"text": text.decode("utf-8", errors="replace")} for text in texts.tolist()
    ]
    for name in outputs.keys() - {"text"}:
        for answer, row in zip(answers, outputs[name], strict=True):
            answer[name] = _without_padding(row) if np.ndim(row) else row
    return answers


def frames_of_batch(outputs: Mapping[str, NDArray[Any]]) -> list[Answer]:
    """Parts features of one call, "features" [B, T, F] and "num_frames" [B], into utterances'."""
    return [
        {"features": rows[:count], "num_frames": count}
        for rows, count in zip(outputs["features"], outputs["num_frames"], strict=True)
    ]


def _without_padding(row: NDArray[Any]) -> NDArray[Any]:
    if row.ndim > 1 or row.dtype == np.bool_:
        return row
    # NaN is not at least zero either.
    real = row != b"" if row.dtype == object else row >= 0
    return row[: np.max(np.nonzero(real)[0], initial=-1) + 1]


def join_answers(answers: Sequence[Answer]) -> dict[str, NDArray[Any]]:
    """Puts the answers of one request back into columns, padded to the longest of them.

    Args:
        answers: Of one model and signature, at least one.

    Returns:
        [B] or [B, ...] by name, "text" as UTF-8; the padding of numbers is -1, of features 0.
    """
    columns: dict[str, NDArray[Any]] = {}
    for name in sorted(answers[0]):
        values = [answer[name] for answer in answers]
        if name == "text":
            columns[name] = np.array([text.encode() for text in values], object)
        else:
            columns[name] = _padded([np.asarray(value) for value in values])
    return columns


def _padded(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shape = tuple(max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True))
    padding = b"" if rows[0].dtype == object else 0 if rows[0].ndim > 1 else PADDING
    column = np.full((len(rows), *shape), padding, rows[0].dtype)
    for place, row in enumerate(rows):
        column[(place, *map(slice, row.shape))] = row
    return column
