"""What every corpus gives: utterances, and their samples in the same order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class CorpusError(ValueError):
    """One unusable entry of a corpus; the message starts with `file:line: ` or `file: `."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One utterance of a corpus, before its audio is read.

    Args:
        utterance_id: Unique in the corpus; letters, digits, "-", "_" and "." only.
        split: Where it belongs.
        text: The transcript as the corpus has it, not yet normalised.
        speaker: Who speaks; "" where the corpus does not say.
        domain: Where the recording comes from; "" where the corpus does not say.
        audio_filepath: The recording; None when the corpus makes the audio itself.
        origin: `file:line` that names it in messages.
    """

    utterance_id: str
    split: Split
    text: str
    speaker: str = ""
    domain: str = ""
    audio_filepath: Path | None = None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Segment(Utterance):
    """An utterance that is a part of its recording.

    Args:
        offset: Where it starts, in seconds.
        duration: How long it is, in seconds.
    """

    offset: float
    duration: float


class Corpus(Protocol):
    """A corpus lists its utterances cheaply, and reads or makes their audio on demand."""

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists what is usable, in an order of its own that never changes, and what is not."""
        ...

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        """Yields, in order, each utterance's audio or the reason why there is none.

        Audio is int16 [T] at the corpus configuration's sample rate, mono.
        """
        ...
