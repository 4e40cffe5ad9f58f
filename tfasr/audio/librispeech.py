"""LibriSpeech, and any corpus in its folder layout."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.listing import text_lines, with_usable_ids
from tfasr.audio.reading import AudioReader, decode_ahead
from tfasr.audio.subsets import split_of_subset
from tfasr.audio.utterance import SPLITS, CorpusError, Split, Utterance


class LibriSpeech:
    """Reads `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac` and the transcripts beside them.

    The domain of an utterance is its subset, whose name also says its split: train-clean-100
    trains, dev-clean validates, test-clean tests.

    Args:
        subsets: Which to take; empty means every folder that has chapters with recordings.
        source: The folder that holds the subsets.
        reader: Reads the recordings.
    """

    def __init__(self, subsets: tuple[str, ...], source: Path, reader: AudioReader) -> None:
        self.subsets = subsets
        self.source = source
        self.reader = reader

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists training, validation and test utterances, and what is wrong with the rest.

        Raises:
            ValueError: A subset is missing, or its name does not tell its split.
        """
        entries = [
            entry
            for subset, split in self._splits().items()
            for speaker in _folders(self.source / subset)
            for chapter in _folders(speaker)
            for entry in _chapter(chapter, split)
        ]
        errors = [entry for entry in entries if isinstance(entry, CorpusError)]
        listed, id_errors = with_usable_ids(
            entry for entry in entries if isinstance(entry, Utterance)
        )
        return listed, errors + id_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return decode_ahead(self.reader.read_utterance, utterances)

    def _splits(self) -> dict[str, Split]:
        """The split of each subset that is taken, in the order of the splits."""
        source = self.source
        if not source.is_dir():
            raise ValueError(f"source must be the folder of the subsets; got source={source}")
        there = [folder.name for folder in _folders(source) if any(folder.glob("*/*/*.flac"))]
        missing = [subset for subset in self.subsets if subset not in there]
        if missing or not there:
            raise ValueError(
                "subsets must be folders of SPEAKER/CHAPTER/*.flac in the source; got "
                f"source={source}, which has {', '.join(there) or 'none'}"
                + (f", and subsets={','.join(missing)}" if missing else "")
            )
        splits = {subset: split_of_subset(subset) for subset in self.subsets or there}
        return dict(sorted(splits.items(), key=lambda item: SPLITS.index(item[1])))


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir())


def _chapter(folder: Path, split: Split) -> Iterator[Utterance | CorpusError]:
    """Yields the utterances of SUBSET/SPEAKER/CHAPTER and what is wrong with the others."""
    subset, speaker, chapter = folder.parts[-3:]
    recordings = {path.stem: path for path in sorted(folder.glob("*.flac"))}
    transcript = folder / f"{speaker}-{chapter}.trans.txt"
    seen: set[str] = set()
    for number, line in text_lines(transcript) if transcript.is_file() else ():
        if isinstance(line, CorpusError):
            yield line
            continue
        origin = f"{transcript}:{number}"
        utterance_id, *text = line.split(maxsplit=1)
        seen.add(utterance_id)
        if utterance_id not in recordings:
            yield CorpusError(f"{origin}: a transcript must have audio; no {utterance_id}.flac")
        elif not text:
            yield CorpusError(f"{origin}: a transcript must have text; {utterance_id} has none")
        else:
            yield Utterance(
                utterance_id=utterance_id,
                split=split,
                text=text[0],
                speaker=speaker,
                domain=subset,
                audio_filepath=recordings[utterance_id],
                origin=origin,
            )
    for stem, path in recordings.items():
        if stem not in seen:
            yield CorpusError(f"{path}: a recording must have a transcript in {transcript.name}")
