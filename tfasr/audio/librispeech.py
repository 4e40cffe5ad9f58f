"""LibriSpeech, and any corpus in its folder layout."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.decoding import decode_ahead, read_audio
from tfasr.audio.listing import text_lines, with_usable_ids
from tfasr.audio.utterance import CorpusError, Split, Utterance
from tfasr.configs.corpora import LibriSpeechConfig
from tfasr.configs.seeds import counted_generator


class LibriSpeech:
    """Reads `SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac` and the transcripts beside them.

    The domain of an utterance is its subset.

    Args:
        config: Which subsets make up each split.
        source: The folder that holds the subsets.
        sample_rate: Of the samples, in hertz.
    """

    def __init__(self, config: LibriSpeechConfig, source: Path, sample_rate: int) -> None:
        self.config = config
        self.source = source
        self.sample_rate = sample_rate

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists training, validation and test utterances, and what is wrong with the rest.

        Raises:
            ValueError: A subset is missing, or no speaker is left to train on.
        """
        self._require_subsets()
        entries = [
            *self._entries("train", self.config.train),
            *self._entries("valid", self.config.valid),
            *self._entries("test", self.config.test),
        ]
        errors = [entry for entry in entries if isinstance(entry, CorpusError)]
        listed, id_errors = with_usable_ids(
            entry for entry in entries if isinstance(entry, Utterance)
        )
        if not self.config.valid:
            listed = self._with_speakers_set_aside(listed)
        return listed, errors + id_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return decode_ahead(self._decode, utterances)

    def _decode(self, utterance: Utterance) -> NDArray[np.int16]:
        if utterance.audio_filepath is None:
            raise CorpusError(f"{utterance.origin}: must have an audio_filepath; got none")
        return read_audio(utterance.audio_filepath, self.sample_rate)

    def _require_subsets(self) -> None:
        source = self.source
        if not source.is_dir():
            raise ValueError(f"source must be the folder of the subsets; got source={source}")
        there = [folder.name for folder in _folders(source)]
        wanted = self.config.train + self.config.valid + self.config.test
        missing = [subset for subset in wanted if subset not in there]
        if missing:
            raise ValueError(
                f"subsets must be folders of {source}, which has {', '.join(there) or 'none'}; "
                f"got {', '.join(missing)}"
            )

    def _entries(self, split: Split, subsets: Sequence[str]) -> Iterator[Utterance | CorpusError]:
        for subset in subsets:
            for speaker in _folders(self.source / subset):
                for chapter in _folders(speaker):
                    yield from _chapter(chapter, split)

    def _with_speakers_set_aside(self, listed: list[Utterance]) -> list[Utterance]:
        """Moves `valid_share` of the training speakers to validation; at least one unless 0."""
        share = self.config.valid_share
        speakers = sorted({entry.speaker for entry in listed if entry.split == "train"})
        if not speakers or share == 0:
            return listed
        count = max(1, round(share * len(speakers)))
        if count == len(speakers):
            raise ValueError(
                "valid_share must leave a speaker to train on, or be 0; "
                f"got valid_share={share} of {len(speakers)} speakers"
            )
        generator = counted_generator(self.config.seed, "librispeech_valid_speakers")
        aside = set(generator.choice(speakers, count, replace=False))
        return [
            replace(entry, split="valid")
            if entry.split == "train" and entry.speaker in aside
            else entry
            for entry in listed
        ]


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
