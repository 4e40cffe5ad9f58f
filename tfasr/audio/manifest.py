"""Manifests: JSON lines that name recordings and their transcripts."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.listing import text_lines, with_usable_ids
from tfasr.audio.reading import AudioReader, decode_ahead
from tfasr.audio.utterance import CorpusError, Segment, Split, Utterance
from tfasr.configs.corpora import ManifestConfig

# The manifest of a split, in this project's words and in NeMo's.
_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train.jsonl", "train_manifest.json"),
    "valid": ("valid.jsonl", "dev.jsonl", "valid_manifest.json", "dev_manifest.json"),
    "test": ("test.jsonl", "test_manifest.json"),
}


class Manifest:
    """Reads `audio_filepath` and `text` and, if given, `speaker`, `domain` and `id` of each line.

    A line with an `offset` is the `duration` seconds of the recording that start there; any
    other is the whole recording, as its `duration` may be rounded.

    Args:
        config: Where relative paths, which start at the folder of their manifest, may lead.
        source: A folder with `train.jsonl`, `valid.jsonl` and `test.jsonl`, or NeMo's
            `train_manifest.json`, `dev_manifest.json` and `test_manifest.json`, of which any
            may be missing; or one manifest of any name, which becomes the test split.
        reader: Reads the recordings.
    """

    def __init__(self, config: ManifestConfig, source: Path, reader: AudioReader) -> None:
        self.config = config
        self.source = source
        self.reader = reader

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the usable lines in order, and what is wrong with the others.

        Raises:
            ValueError: There is no manifest, or there are two for one split.
        """
        entries = [
            _entry(line, path, number, split, self._root(path))
            for split, path in self._manifests().items()
            for number, line in text_lines(path)
        ]
        errors = [entry for entry in entries if isinstance(entry, CorpusError)]
        listed, id_errors = with_usable_ids(
            entry for entry in entries if isinstance(entry, Utterance)
        )
        return listed, errors + id_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return decode_ahead(self.reader.read_utterance, utterances)

    def _manifests(self) -> dict[Split, Path]:
        source = self.source
        if source.is_file():
            return {"test": source}
        paths: dict[Split, Path] = {}
        for split, names in _NAMES.items():
            there = [source / name for name in names if (source / name).is_file()]
            if len(there) > 1:
                raise ValueError(
                    f"{source}: a split must have one manifest; "
                    f"got {' and '.join(path.name for path in there)} for {split}"
                )
            if there:
                paths[split] = there[0]
        if not paths:
            raise ValueError(
                "source must be a manifest, or a folder with "
                f"{', '.join(name for names in _NAMES.values() for name in names)}; "
                f"got source={source}"
            )
        return paths

    def _root(self, manifest: Path) -> str:
        return os.path.abspath(self.config.root or manifest.parent)


def _entry(
    line: str | CorpusError, path: Path, number: int, split: Split, root: str
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
            "audio_filepath": _audio_filepath(row, path.parent, root),
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


def _audio_filepath(row: dict[str, Any], folder: Path, root: str) -> Path:
    name = _required(row, "audio_filepath")
    path = name if os.path.isabs(name) else _path_within(root, folder, name)
    # Not Path.is_file, which raises on a name that is too long.
    if not os.path.isfile(path):
        reason = f"{path} is a folder" if os.path.isdir(path) else f"there is no {path}"
        raise CorpusError(f"'audio_filepath' must be a file; {reason}")
    return Path(path)


def _path_within(root: str, folder: Path, name: str) -> str:
    # The path that is opened is the one that is checked: the system would resolve a ".." behind
    # a link by where the link leads.
    path = os.path.normpath(os.path.join(folder, name))
    if not os.path.abspath(path).startswith(os.path.join(root, "")):
        raise CorpusError(
            f"'audio_filepath' must stay in {root}; got {name[:80]!r} "
            "(--manifest.root DIR allows what is in DIR)"
        )
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
