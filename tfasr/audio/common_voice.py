"""Common Voice."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.listing import with_usable_ids
from tfasr.audio.reading import AudioReader, decode_ahead
from tfasr.audio.subsets import require_apart, split_of_subset
from tfasr.audio.utterance import CorpusError, Split, Utterance

REQUIRED = ("client_id", "path", "sentence")
DEFAULT_SUBSETS = ("train", "dev", "test")


class CommonVoice:
    """Reads `train.tsv`, `dev.tsv` and `test.tsv` of one language and the `clips/` they name.

    The speaker of an utterance is its `client_id`, its domain the `locale`, where there is one.

    Args:
        subsets: Tables to take, without ".tsv"; empty takes those of the three that are there.
        source: The folder of the tables.
        reader: Reads the clips.
    """

    def __init__(self, subsets: tuple[str, ...], source: Path, reader: AudioReader) -> None:
        self.subsets = subsets
        self.source = source
        self.reader = reader

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the usable lines of the tables in order, and what is wrong with the others.

        Raises:
            ValueError: A table is missing, lacks a column, or holds another's clips.
        """
        utterances: list[Utterance] = []
        errors: list[CorpusError] = []
        ids: dict[str, set[str]] = {}
        for subset, split in self._subsets().items():
            ids[subset] = set()
            for entry in _entries(self.source, subset, split):
                if isinstance(entry, CorpusError):
                    errors.append(entry)
                else:
                    utterances.append(entry)
                    ids[subset].add(entry.utterance_id)
        require_apart(ids)
        listed, id_errors = with_usable_ids(utterances)
        return listed, errors + id_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return decode_ahead(self.reader.read_utterance, utterances)

    def _subsets(self) -> dict[str, Split]:
        source = self.source
        there = sorted(path.stem for path in source.glob("*.tsv"))
        subsets = self.subsets or tuple(name for name in DEFAULT_SUBSETS if name in there)
        if not subsets or not (source / "clips").is_dir():
            raise ValueError(
                "source must be the folder of one language, with train.tsv, dev.tsv or test.tsv "
                f"and clips; got source={source}"
            )
        missing = [subset for subset in subsets if subset not in there]
        if missing:
            raise ValueError(
                f"subsets must be tables of {source}, which has {', '.join(there) or 'none'}; "
                f"got {', '.join(missing)}"
            )
        return {subset: split_of_subset(subset) for subset in subsets}


def _entries(source: Path, subset: str, split: Split) -> Iterator[Utterance | CorpusError]:
    table = source / f"{subset}.tsv"
    lines = _lines(table)
    columns = _columns(table, next(lines, (1, []))[1])
    for number, fields in lines:
        try:
            yield _utterance(fields, columns, source / "clips", split, f"{table}:{number}")
        except CorpusError as error:
            yield CorpusError(f"{table}:{number}: {error}")


def _lines(table: Path) -> Iterator[tuple[int, list[str] | CorpusError]]:
    """Yields number and fields of each line; a quotation mark is but a letter of a sentence."""
    with table.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, CorpusError(f"must be UTF-8; {error.reason}")
                continue
            if text.strip():
                yield number, text.rstrip("\r\n").split("\t")


def _columns(table: Path, header: list[str] | CorpusError) -> list[str]:
    if isinstance(header, CorpusError):
        raise ValueError(f"{table}:1: {header}")
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise ValueError(
            f"{table}:1: a table must have the columns {', '.join(REQUIRED)}, divided by tabs; "
            f"got no {', '.join(missing)}"
        )
    return header


def _utterance(
    fields: list[str] | CorpusError, columns: list[str], clips: Path, split: Split, origin: str
) -> Utterance:
    if isinstance(fields, CorpusError):
        raise fields
    if len(fields) != len(columns):
        raise CorpusError(
            f"a line must have {len(columns)} fields like the first, divided by tabs and without "
            f"quoting; got {len(fields)}"
        )
    row = dict(zip(columns, fields, strict=True))
    sentence = row["sentence"].strip()
    if not sentence:
        raise CorpusError("'sentence' must not be empty; got ''")
    if sentence[0] == sentence[-1] == '"' and '""' in sentence[1:-1]:
        raise CorpusError(
            f"'sentence' must be written without CSV's outer and doubled quotes; got {sentence}"
        )
    path = _clip(row["path"], clips)
    return Utterance(
        utterance_id=path.stem,
        split=split,
        text=sentence,
        speaker=row["client_id"],
        domain=row.get("locale", ""),
        audio_filepath=path,
        origin=origin,
    )


def _clip(name: str, clips: Path) -> Path:
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise CorpusError(f"'path' must be a file in clips; got {name!r}")
    path = clips / name
    # Not Path.is_file, which raises on a name that is too long.
    if not os.path.isfile(path):
        raise CorpusError(f"'path' must be a file in clips; there is no {path}")
    return path
