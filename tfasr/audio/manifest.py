"""Manifests: JSON lines that name recordings and their transcripts."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.decoding import decode_ahead, read_audio
from tfasr.audio.listing import text_lines, with_usable_ids
from tfasr.audio.utterance import SPLITS, CorpusError, Split, Utterance

# Manifests round offsets and durations, often to hundredths of a second.
END_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Segment(Utterance):
    """An utterance that is a part of its recording.

    Args:
        offset: Where it starts, in seconds.
        duration: How long it is, in seconds.
    """

    offset: float
    duration: float


class Manifest:
    """Reads `audio_filepath` and `text` and, if given, `speaker`, `domain` and `id` of each line.

    A line with an `offset` is the `duration` seconds of the recording that start there; the
    whole recording is decoded for each such line.

    Args:
        source: A folder with `train.jsonl`, `valid.jsonl` and `test.jsonl`, of which any may
            be missing, or one manifest, which becomes the test split.
        sample_rate: Of the samples, in hertz.
    """

    def __init__(self, source: Path, sample_rate: int) -> None:
        self.source = source
        self.sample_rate = sample_rate

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the usable lines in order, and what is wrong with the others.

        Raises:
            ValueError: There is no manifest.
        """
        entries = [
            _entry(line, path, number, split)
            for split, path in self._manifests().items()
            for number, line in text_lines(path)
        ]
        errors = [entry for entry in entries if isinstance(entry, CorpusError)]
        listed, id_errors = with_usable_ids(
            entry for entry in entries if isinstance(entry, Utterance)
        )
        return listed, errors + id_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return decode_ahead(self._decode, utterances)

    def _manifests(self) -> dict[Split, Path]:
        source = self.source
        if source.is_file():
            return {"test": source}
        paths: dict[Split, Path] = {split: source / f"{split}.jsonl" for split in SPLITS}
        there = {split: path for split, path in paths.items() if path.is_file()}
        if not there:
            raise ValueError(
                "source must be a manifest, or a folder with train.jsonl, valid.jsonl or "
                f"test.jsonl; got source={source}"
            )
        return there

    def _decode(self, utterance: Utterance) -> NDArray[np.int16]:
        if utterance.audio_filepath is None:
            raise CorpusError(f"{utterance.origin}: must have an audio_filepath; got none")
        rate = self.sample_rate
        samples = read_audio(utterance.audio_filepath, rate)
        if not isinstance(utterance, Segment):
            return samples
        end = utterance.offset + utterance.duration
        part = samples[round(utterance.offset * rate) : round(end * rate)]
        if end > len(samples) / rate + END_TOLERANCE or not len(part):
            raise CorpusError(
                f"{utterance.origin}: offset and duration must lie in the recording; got "
                f"{utterance.offset} s and {utterance.duration} s of {len(samples) / rate} s"
            )
        return part


def _entry(
    line: str | CorpusError, path: Path, number: int, split: Split
) -> Utterance | CorpusError:
    """Reads one line, or gives the error that it is."""
    if isinstance(line, CorpusError):
        return line
    origin = f"{path}:{number}"
    try:
        row = _json_object(line)
        fields: dict[str, Any] = {
            "utterance_id": _optional(row, "id") or f"{split}-{number:07d}",
            "split": split,
            "text": _required(row, "text"),
            "speaker": _optional(row, "speaker"),
            "domain": _optional(row, "domain"),
            "audio_filepath": _audio_filepath(row, path.parent),
            "origin": origin,
        }
        if row.get("offset") is None:
            return Utterance(**fields)
        return Segment(offset=_seconds(row, "offset"), duration=_seconds(row, "duration"), **fields)
    except CorpusError as error:
        return CorpusError(f"{origin}: {error}")


def _json_object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    # A ValueError that is no JSONDecodeError comes of a number with thousands of digits.
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"must be JSON; {error}") from None
    if not isinstance(row, dict):
        raise CorpusError(f"must be a JSON object; got {line[:80]}")
    return row


def _audio_filepath(row: dict[str, Any], folder: Path) -> Path:
    path = folder / _required(row, "audio_filepath")
    # Not Path.is_file, which raises on a name that is too long.
    if not os.path.isfile(path):
        raise CorpusError(f"'audio_filepath' must be a file; there is no {path}")
    return path


def _required(row: dict[str, Any], key: str) -> str:
    if key not in row:
        raise CorpusError(f"must have '{key}'; got {', '.join(row) or 'nothing'}")
    value = row[key]
    if not isinstance(value, str):
        raise CorpusError(f"'{key}' must be a string; got {repr(value)[:80]}")
    if not value.strip():
        raise CorpusError(f"'{key}' must not be empty; got {value!r}")
    return _encodable(key, value)


def _optional(row: dict[str, Any], key: str) -> str:
    """Gives a name, which may be written as a number; "" where there is none."""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise CorpusError(f"'{key}' must be a string or a whole number; got {repr(value)[:80]}")
    return _encodable(key, str(value))


def _encodable(key: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"'{key}' must be whole characters; {error.reason}") from None
    return value


def _seconds(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise CorpusError(f"a segment's '{key}' must be 0 to 1e9 seconds; got {repr(value)[:80]}")
    return float(value)
