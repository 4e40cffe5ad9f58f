"""The Corpus of Spontaneous Japanese, and any other Japanese in Kaldi data folders."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.kaldi import Kaldi
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError, Utterance
from tfasr.configs.corpora import KaldiConfig

# Kana, kanji, their marks and units, full-width marks and digits, half-width kana. Full-width
# letters are not among them: they spell foreign words, with spaces between them.
_JAPANESE = (
    r"[\u3000-\u30ff\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\uff01-\uff20\uff3b-\uff40\uff5b-\uffef\U00020000-\U0003ffff]"
)
_SPACE = re.compile(rf"(?<={_JAPANESE}) | (?={_JAPANESE})")
_PART_OF_SPEECH = re.compile(r"\+[^\x00-\x7f].*")
_TAG = re.compile(r"<[^<>]*>")


def plain_japanese(text: str) -> str:
    """Writes words that the Kaldi recipe for CSJ has analysed as Japanese is written.

    The part of speech after a word's "+" goes, as do tags such as `<sp>`, and spaces on either
    side of which there is a Japanese letter or mark; between Latin words they stay.
    """
    words = (_PART_OF_SPEECH.sub("", word) for word in text.split())
    return _SPACE.sub("", " ".join(word for word in words if word and not _TAG.fullmatch(word)))


class Csj:
    """Reads Kaldi data folders whose transcripts are Japanese.

    Kaldi's recipe egs/csj/s5 makes `eval1`, `eval2`, `eval3`, `train_dev`, and of the rest,
    `train_nodev`, excerpts of which `train_nodup`, without the most frequent utterances, is the
    one that it trains on in the end: `--subsets train_nodup,train_dev,eval1,eval2,eval3`.

    Args:
        config: What commands may do.
        subsets: Data folders to take; empty takes all.
        source: As for `Kaldi`.
        reader: Reads the recordings.
    """

    def __init__(
        self, config: KaldiConfig, subsets: tuple[str, ...], source: Path, reader: AudioReader
    ) -> None:
        self._kaldi = Kaldi(config, subsets, source, reader)

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the utterances of the data folders with plain text, and what is wrong.

        Raises:
            ValueError: As for `Kaldi`.
        """
        tagged, errors = self._kaldi.utterances()
        plain = [replace(utterance, text=plain_japanese(utterance.text)) for utterance in tagged]
        empty = [
            CorpusError(
                f"{utterance.origin}: a transcript must have words; {utterance.utterance_id} has "
                "tags only"
            )
            for utterance in plain
            if not utterance.text
        ]
        return [utterance for utterance in plain if utterance.text], errors + empty

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return self._kaldi.samples(utterances)
