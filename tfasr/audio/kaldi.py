"""Kaldi data folders."""

import math
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.listing import text_lines, with_usable_ids
from tfasr.audio.reading import AudioReader, decode_ahead
from tfasr.audio.subsets import require_apart, split_of_subset
from tfasr.audio.utterance import CorpusError, Segment, Split, Utterance
from tfasr.configs.corpora import KaldiConfig

# Outputs of commands that are kept while the utterances in them are read, one after the other.
KEPT_OUTPUTS = 2

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Piped(Utterance):
    """An utterance in the audio that a command writes.

    Args:
        command: A line for the shell.
        folder: Where it is run.
        offset: Where the utterance starts, in seconds.
        duration: How long it is, in seconds; infinity means to the end.
    """

    command: str
    folder: Path
    offset: float = 0.0
    duration: float = math.inf


class Kaldi:
    """Reads `wav.scp` and `text` and, where they are there, `segments` and `utt2spk`.

    The domain of an utterance is the name of its data folder. A relative path of `wav.scp` is
    looked for from the data folder, from the folder around it (`data`) and from the one around
    that, where recipes are run; there, too, commands are run. `cat PATH |` is no command but
    that path.

    Args:
        config: What commands may do.
        subsets: Data folders to take; empty takes all.
        source: One data folder, which becomes the training split, or a folder of them, whose
            names tell their splits.
        reader: Reads the recordings.
    """

    def __init__(
        self, config: KaldiConfig, subsets: tuple[str, ...], source: Path, reader: AudioReader
    ) -> None:
        self.config = config
        self.subsets = subsets
        self.source = source
        self.reader = reader

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the utterances of each data folder in the order of its `text`, and what is wrong.

        Raises:
            ValueError: A data folder is missing, lacks a file, has a name that does not tell
                its split, or holds another's utterances.
        """
        entries: list[Utterance] = []
        errors: list[CorpusError] = []
        ids = {}
        for path, split in self._folders().items():
            folder = _DataFolder(path, self.config, self.reader)
            entries += folder.utterances(split)
            errors += folder.errors
            ids[folder.name] = folder.text.keys()
        require_apart(ids)
        listed, id_errors = with_usable_ids(entries)
        return listed, errors + id_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        outputs = _Outputs(self.reader)

        def decode(utterance: Utterance) -> NDArray[np.int16]:
            if isinstance(utterance, Piped):
                return outputs.read_utterance(utterance)
            return self.reader.read_utterance(utterance)

        return decode_ahead(decode, utterances)

    def _folders(self) -> dict[Path, Split]:
        source = self.source
        if _is_data_folder(source):
            if self.subsets:
                raise ValueError(
                    "subsets choose among data folders, and the source is one of them; "
                    f"got subsets={','.join(self.subsets)}, source={source}"
                )
            return {source: "train"}
        within = sorted(source.iterdir()) if source.is_dir() else []
        there = {path.name: path for path in within if _is_data_folder(path)}
        if not there:
            raise ValueError(
                "source must be a data folder, which has wav.scp and text, or a folder of "
                f"them; got source={source}"
            )
        missing = [subset for subset in self.subsets if subset not in there]
        if missing:
            raise ValueError(
                f"subsets must be data folders of {source}, which has {', '.join(there)}; "
                f"got {', '.join(missing)}"
            )
        return {there[name]: split_of_subset(name) for name in self.subsets or there}


def _is_data_folder(path: Path) -> bool:
    return (path / "wav.scp").is_file()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A line of a table: an id, the rest, and `file:line`."""

    key: str
    rest: str
    origin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Audio:
    """A file or, where there is none, what a command writes; or a part of either, in seconds."""

    path: Path | None = None
    command: str = ""
    offset: float = 0.0
    duration: float = math.inf


class _DataFolder:
    """One data folder, and what is wrong with it.

    A recording, segment or speaker that was found wrong is None, so that what hangs on it is
    left out without another message.
    """

    def __init__(self, given: Path, config: KaldiConfig, reader: AudioReader) -> None:
        self.errors: list[CorpusError] = []
        self._given = given
        self._config = config
        self._reader = reader
        # The data folder, the one around it, and the one around that.
        whole = Path(os.path.abspath(given))
        self._bases = (whole, *whole.parents)[:3]
        self._lengths: dict[Path, float] = {}
        rows, segments = self._table("wav.scp"), self._optional_table("segments")
        speakers = self._optional_table("utt2spk")
        self.text = self._table("text")
        self._recordings = self._parsed(rows, self._recording)
        self._audio = self._recordings
        self._speakers = None if speakers is None else self._parsed(speakers, _speaker)
        if segments is not None:
            self._audio = self._parsed(segments, self._segment)
            used = {row.rest.split(maxsplit=1)[0] for row in segments.values() if row.rest}
            self._refuse_unused(rows, used, "a recording must have segments")
            rows = segments
        self._refuse_unused(rows, self.text.keys(), "audio must have a line in text")

    @property
    def name(self) -> str:
        return self._bases[0].name

    def utterances(self, split: Split) -> list[Utterance]:
        found = self._parsed(self.text, lambda row: self._utterance(row, split))
        return [utterance for utterance in found.values() if utterance is not None]

    def _table(self, name: str) -> dict[str, _Row]:
        path = self._given / name
        if not path.is_file():
            raise ValueError(f"{path}: a data folder must have wav.scp and text; no such file")
        rows: dict[str, _Row] = {}
        for number, line in text_lines(path):
            if isinstance(line, CorpusError):
                self.errors.append(line)
                continue
            key, *rest = line.split(maxsplit=1)
            row = _Row(key=key, rest="".join(rest), origin=f"{path}:{number}")
            first = rows.setdefault(key, row)
            if first is not row:
                self.errors.append(
                    CorpusError(
                        f"{row.origin}: an id must be given once; {key} is also at {first.origin}"
                    )
                )
        return rows

    def _optional_table(self, name: str) -> dict[str, _Row] | None:
        return self._table(name) if (self._given / name).is_file() else None

    def _parsed(
        self, rows: dict[str, _Row], parse: Callable[[_Row], Value | None]
    ) -> dict[str, Value | None]:
        values: dict[str, Value | None] = {}
        for row in rows.values():
            try:
                values[row.key] = parse(row)
            except CorpusError as error:
                values[row.key] = None
                self.errors.append(CorpusError(f"{row.origin}: {error}"))
        return values

    def _refuse_unused(self, rows: dict[str, _Row], used: Any, rule: str) -> None:
        self.errors += [
            CorpusError(f"{row.origin}: {rule}; {key} has none")
            for key, row in rows.items()
            if key not in used
        ]

    def _recording(self, row: _Row) -> _Audio:
        if not row.rest.strip("| "):
            raise CorpusError(f"a recording must have a path; {row.key} has none")
        cat = re.fullmatch(r"cat\s+([\w./,:=@%+-]+)\s*\|", row.rest)
        if not cat and row.rest.endswith("|"):
            if self._config.commands == "refuse":
                raise CorpusError(
                    f"a recording must be a file; got the command {row.rest!r} "
                    "(--kaldi.commands run runs commands; run only what you trust)"
                )
            return _Audio(command=row.rest.removesuffix("|").strip())
        name = cat[1] if cat else row.rest
        for base in self._bases:
            # Not Path.is_file, which raises on a name that is too long.
            if os.path.isfile(base / name):
                return _Audio(path=base / name)
        if re.search(r":\d+(\[.*\])?$", name):
            raise CorpusError(
                "a recording must be a file of its own; got a place in an archive, "
                f"{name} (copy each recording to a file)"
            )
        raise CorpusError(
            f"a recording must be a file; there is no {name}, looked for from "
            f"{self._bases[0]} and the two folders around it"
        )

    def _segment(self, row: _Row) -> _Audio | None:
        fields = row.rest.split()
        if len(fields) != 3:
            raise CorpusError(
                "a segment must be an id, a recording, a start and an end; "
                f"got {len(fields) + 1} fields"
            )
        name, start, end = fields
        if name not in self._recordings:
            raise CorpusError(f"a segment's recording must be in wav.scp; {name} is not")
        offset, last = _seconds(start), _seconds(end)
        recording = self._recordings[name]
        if recording is None:
            return None
        if last == -1:
            last = math.inf if recording.path is None else self._seconds_of(recording.path)
        if not 0 <= offset < last:
            raise CorpusError(
                "a segment must start at 0 s or later and end after that, at -1 for the end of "
                f"the recording; got {start} to {end}"
            )
        return replace(recording, offset=offset, duration=last - offset)

    def _seconds_of(self, path: Path) -> float:
        if path not in self._lengths:
            self._lengths[path] = self._reader.seconds_of(path)
        return self._lengths[path]

    def _utterance(self, row: _Row, split: Split) -> Utterance | None:
        if row.key not in self._audio:
            raise CorpusError(f"a transcript must have audio; {row.key} has none")
        if not row.rest:
            raise CorpusError(f"a transcript must have text; {row.key} has none")
        if self._speakers is not None and row.key not in self._speakers:
            raise CorpusError(f"a transcript must have a speaker in utt2spk; {row.key} has none")
        audio = self._audio[row.key]
        speaker = "" if self._speakers is None else self._speakers[row.key]
        if audio is None or speaker is None:
            return None
        fields: dict[str, Any] = {
            "utterance_id": row.key,
            "split": split,
            "text": row.rest,
            "speaker": speaker,
            "domain": self.name,
            "audio_filepath": audio.path,
            "origin": row.origin,
        }
        if audio.command:
            fields |= {"command": audio.command, "folder": self._bases[-1]}
            return Piped(offset=audio.offset, duration=audio.duration, **fields)
        if audio.duration == math.inf:
            return Utterance(**fields)
        return Segment(offset=audio.offset, duration=audio.duration, **fields)


def _speaker(row: _Row) -> str:
    if len(row.rest.split()) != 1:
        raise CorpusError(f"an utterance must have one speaker; {row.key} has {row.rest!r}")
    return row.rest


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise CorpusError(f"a segment's times must be seconds; got {text}")
    return seconds


@dataclass(kw_only=True)
class _Output:
    """What a command wrote, once it has."""

    lock: Lock = field(default_factory=Lock)
    written: bytes | CorpusError | None = None


class _Outputs:
    """Runs a command once for the utterances in a row that are parts of what it writes."""

    def __init__(self, reader: AudioReader) -> None:
        self._reader = reader
        self._lock = Lock()
        self._latest: dict[tuple[str, Path], _Output] = {}

    def read_utterance(self, utterance: Piped) -> NDArray[np.int16]:
        name = f"{utterance.origin}: {utterance.command} |"
        written = self._written(utterance)
        if isinstance(written, CorpusError):
            raise CorpusError(f"{name}: {written}")
        return self._reader.read_bytes(written, name, utterance.offset, utterance.duration)

    def _written(self, utterance: Piped) -> bytes | CorpusError:
        with self._lock:
            output = self._latest.setdefault((utterance.command, utterance.folder), _Output())
            while len(self._latest) > KEPT_OUTPUTS:
                self._latest.pop(next(iter(self._latest)))
        with output.lock:
            if output.written is None:
                output.written = _run(utterance.command, utterance.folder)
            return output.written


def _run(command: str, folder: Path) -> bytes | CorpusError:
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if not done.returncode:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return CorpusError(
        f"a command must succeed; run in {folder}, it ended with {done.returncode}"
        f"{': ' if said else ''}{''.join(said)}"
    )
