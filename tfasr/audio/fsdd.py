"""Free Spoken Digit Dataset: recordings of single digits, joined into strings."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.reading import AudioReader, decode_ahead
from tfasr.audio.sentences import DIGITS
from tfasr.audio.utterance import CorpusError, Split, Utterance
from tfasr.configs.corpora import FsddConfig
from tfasr.configs.seeds import counted_generator

# No leading zeros: 07 would be take 7 under a second name, and might cross splits.
_NAME = re.compile(r"([0-9])_([A-Za-z0-9._-]+)_(0|[1-9][0-9]*)\.wav")

# The recordings that a speaker's strings may use: digit -> files, both in rising order.
Takes = dict[int, list[Path]]


class Fsdd:
    """Joins `{digit}_{speaker}_{take}.wav` into strings of digits of one speaker.

    A split's strings go round its speakers. String number i of a split is drawn from the seed,
    the split and i, so its audio can be made without that of the others.

    Args:
        config: What strings to make of the recordings.
        source: The folder of recordings, or the one above it.
        reader: Reads the recordings, which have 8,000 Hz.
    """

    def __init__(self, config: FsddConfig, source: Path, reader: AudioReader) -> None:
        self.config = config
        self.source = source
        self.reader = reader
        self._decoded: dict[Path, NDArray[np.int16]] = {}

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the strings of all splits, and the files that are no recordings.

        A split of which the source holds no recording has no strings.

        Raises:
            ValueError: There are no recordings for any split, or a speaker does not exist.
        """
        listed = []
        for split, wanted in self.config.splits.items():
            speakers = sorted(self._takes[split])
            for index in range(wanted.strings if speakers else 0):
                listed.append(self._utterance(split, speakers[index % len(speakers)], index))
        errors = [
            CorpusError(f"{path}: must be named {{digit}}_{{speaker}}_{{take}}.wav")
            for path in self._files
            if not _NAME.fullmatch(path.name)
        ]
        return listed, errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return decode_ahead(self._join, utterances)

    def parts(self, utterance: Utterance) -> tuple[list[Path], list[int]]:
        """Tells what a string is made of.

        Returns:
            The recordings, and the pauses before, between and after them, in samples: one more.
        """
        index = int(utterance.utterance_id.rpartition("-")[2])
        _, recordings, pauses = self._draw(utterance.split, utterance.speaker, index)
        return recordings, pauses

    def _utterance(self, split: Split, speaker: str, index: int) -> Utterance:
        digits, _, _ = self._draw(split, speaker, index)
        utterance_id = f"{split}-{speaker}-{index:05d}"
        return Utterance(
            utterance_id=utterance_id,
            split=split,
            text=" ".join(DIGITS[digit] for digit in digits),
            speaker=speaker,
            domain="fsdd",
            origin=f"fsdd string {utterance_id}",
        )

    def _draw(
        self, split: Split, speaker: str, index: int
    ) -> tuple[list[int], list[Path], list[int]]:
        """Draws the digits, recordings and pauses (in samples) of one string."""
        config = self.config
        takes = self._takes[split][speaker]
        generator = counted_generator(config.seed, "fsdd", split, index)
        length = generator.integers(config.min_digits, config.max_digits, endpoint=True)
        digits = [list(takes)[choice] for choice in generator.integers(len(takes), size=length)]
        recordings = [takes[digit][generator.integers(len(takes[digit]))] for digit in digits]
        seconds = generator.uniform(config.min_silence, config.max_silence, size=length + 1)
        return digits, recordings, [round(pause * self.reader.sample_rate) for pause in seconds]

    def _join(self, utterance: Utterance) -> NDArray[np.int16]:
        recordings, pauses = self.parts(utterance)
        pieces = [np.zeros(pauses[0], np.int16)]
        for recording, pause in zip(recordings, pauses[1:], strict=True):
            pieces += [self._decode(recording), np.zeros(pause, np.int16)]
        return np.concatenate(pieces)

    def _decode(self, path: Path) -> NDArray[np.int16]:
        if path not in self._decoded:
            self._decoded[path] = self.reader.read(path)
        return self._decoded[path]

    @cached_property
    def _files(self) -> list[Path]:
        source = self.source
        if not source.is_dir():
            raise ValueError(f"source must be the folder of recordings; got source={source}")
        folder = source / "recordings" if (source / "recordings").is_dir() else source
        # Hidden files are the desktop's, not the corpus's.
        files = (path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
        return sorted(files)

    @cached_property
    def _takes(self) -> dict[Split, dict[str, Takes]]:
        """What each speaker's strings may use in each split; speakers without any are left out."""
        matches = [(path, _NAME.fullmatch(path.name)) for path in self._files]
        found = sorted(
            (int(match[1]), match[2], int(match[3]), path) for path, match in matches if match
        )
        self._require_speakers({speaker for _, speaker, _, _ in found})
        splits: dict[Split, dict[str, Takes]] = {}
        for name, wanted in self.config.splits.items():
            splits[name] = {}
            for digit, speaker, take, path in found:
                if take in wanted.takes and (speaker in wanted.speakers or not wanted.speakers):
                    takes = splits[name].setdefault(wanted.named(speaker, take), {})
                    takes.setdefault(digit, []).append(path)
        if not any(splits.values()):
            config = self.config
            raise ValueError(
                "source must hold {digit}_{speaker}_{take}.wav of the takes "
                f"{config.train_takes} (train), {config.valid_takes} (valid) or "
                f"{config.test_takes} (test); got source={self.source}, which has "
                f"{len(found)} recordings, of other takes"
            )
        return splits

    def _require_speakers(self, found: set[str]) -> None:
        for name, split in self.config.splits.items():
            unknown = sorted(set(split.speakers) - found)
            if unknown:
                raise ValueError(
                    f"{name}_speakers must have recordings in {self.source}, which has "
                    f"those of {', '.join(sorted(found)) or 'nobody'}; got {', '.join(unknown)}"
                )
