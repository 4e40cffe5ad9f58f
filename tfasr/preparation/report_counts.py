"""Counts what a folder of prepared data holds, in one pass over its manifests."""

import heapq
import itertools
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Any

import sentencepiece

from tfasr.audio.utterance import SPLITS, Split
from tfasr.configs.features import FbankConfig
from tfasr.text.tokenizer import UNKNOWN, Tokenizer

# Beyond these, text and audio rarely belong together; in tokens per second.
SLOWEST, FASTEST = 0.5, 25.0
# Utterances that are shown of those that stand out.
SHOWN = 10
# Every encoder here halves the frames twice.
SUBSAMPLING = 4
# Rows that SentencePiece is given at once.
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a manifest.

    Args:
        utterance_id: Unique in the corpus.
        split: The manifest's split.
        seconds: How long it is.
        text: Its normalised transcript.
        speaker: Who speaks; "" where the corpus does not say.
        domain: Where the recording comes from; "" where the corpus does not say.
    """

    utterance_id: str
    split: Split
    seconds: float
    text: str
    speaker: str
    domain: str


@dataclass(frozen=True)
class Encoded:
    """One utterance and its tokens.

    Args:
        row: The utterance.
        num_tokens: Tokens of its text.
        encoder_frames: Frames that CTC has for them.
        required_frames: Frames that CTC needs: one a token and a blank between equal ones.
    """

    row: Row
    num_tokens: int
    encoder_frames: int
    required_frames: int

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.num_tokens / max(self.row.seconds, 1e-9)

    @property
    def excess(self) -> float:
        """How many times the rate is beyond `SLOWEST` or `FASTEST`; at most 1 within them."""
        return max(self.rate / FASTEST, SLOWEST / max(self.rate, 1e-9))

    @property
    def shortfall(self) -> int:
        """Frames that CTC lacks; not positive where there is an alignment."""
        return self.required_frames - self.encoder_frames


@dataclass
class Amount:
    """Utterances and their seconds."""

    utterances: int = 0
    seconds: float = 0.0


class SplitCounts:
    """What a split holds.

    Attributes:
        seconds: Of each utterance.
        num_tokens: Of each utterance; empty without a tokenizer.
        characters: Characters of the texts, spaces included.
        words: How often each word stands in the texts.
        speakers: How much each says; "" is whoever the corpus does not name.
        domains: How much is of each; "" as above.
        unknown_tokens: Tokens that stand for characters the tokenizer does not know.
        unknown_characters: How often each of these characters stands in the texts.
        suspects: Utterances whose tokens per second are beyond the limits.
        cramped: Utterances that CTC cannot align.
        worst_suspects: The `SHOWN` furthest beyond the limits, worst first.
        worst_cramped: The `SHOWN` that lack most frames, worst first.
    """

    def __init__(self) -> None:
        self.seconds = array("d")
        self.num_tokens = array("q")
        self.characters = 0
        self.words: Counter[str] = Counter()
        self.speakers: defaultdict[str, Amount] = defaultdict(Amount)
        self.domains: defaultdict[str, Amount] = defaultdict(Amount)
        self.unknown_tokens = 0
        self.unknown_characters: Counter[str] = Counter()
        self.suspects = 0
        self.cramped = 0
        self.worst_suspects: list[Encoded] = []
        self.worst_cramped: list[Encoded] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Counts what needs no tokenizer."""
        for row in rows:
            self.seconds.append(row.seconds)
            self.characters += len(row.text)
            self.words.update(row.text.split())
            for amount in (self.speakers[row.speaker], self.domains[row.domain]):
                amount.utterances += 1
                amount.seconds += row.seconds

    def add_encoded(self, utterances: Sequence[Encoded]) -> None:
        """Counts what the tokenizer makes of the same utterances."""
        self.num_tokens.extend(utterance.num_tokens for utterance in utterances)
        suspects = [utterance for utterance in utterances if utterance.excess > 1]
        cramped = [utterance for utterance in utterances if utterance.shortfall > 0]
        self.suspects += len(suspects)
        self.cramped += len(cramped)
        self.worst_suspects = worst_suspects([*self.worst_suspects, *suspects])
        self.worst_cramped = worst_cramped([*self.worst_cramped, *cramped])

    def unseen(self, learned: set[str]) -> Counter[str]:
        """The words that are not among those learned, and how often each stands here."""
        return Counter({word: n for word, n in self.words.items() if word not in learned})


def worst_suspects(utterances: Sequence[Encoded]) -> list[Encoded]:
    """The `SHOWN` utterances furthest beyond the limits, worst first."""
    return heapq.nlargest(SHOWN, utterances, key=lambda utterance: utterance.excess)


def worst_cramped(utterances: Sequence[Encoded]) -> list[Encoded]:
    """The `SHOWN` utterances that lack most frames, worst first."""
    return heapq.nlargest(SHOWN, utterances, key=lambda utterance: utterance.shortfall)


@dataclass(frozen=True)
class FolderCounts:
    """What a folder of prepared data holds.

    Args:
        splits: By name.
        learned: Words of the training text whose domain is not withheld.
        vocabulary: Pieces of the tokenizer; 0 without one.
    """

    splits: dict[Split, SplitCounts]
    learned: set[str]
    vocabulary: int

    def shared_speakers(self) -> list[str]:
        """Those in the training split who are in another one too, by name."""
        held_out = {*self.splits["valid"].speakers, *self.splits["test"].speakers}
        return sorted(self.splits["train"].speakers.keys() & held_out - {""})


def count_folder(folder: Path, fbank: FbankConfig, withheld: Sequence[str]) -> FolderCounts:
    """Reads the manifests of a folder once.

    Args:
        folder: What `tfasr prepare` wrote.
        fbank: The features, which say how many frames an utterance has.
        withheld: Domains that training leaves out.

    Raises:
        ValueError: A manifest is missing or a line of it is no row; names file and line.
    """
    path = folder / "tokenizer.model"
    vocabulary = Tokenizer(path).vocabulary if path.is_file() else 0
    model = sentencepiece.SentencePieceProcessor(model_file=str(path)) if vocabulary else None
    learned: set[str] = set()
    splits = {}
    for split in SPLITS:
        counts = splits[split] = SplitCounts()
        rows = _rows(folder / f"{split}.jsonl", split)
        while chunk := list(itertools.islice(rows, _CHUNK)):
            counts.add(chunk)
            if model:
                _encode(chunk, model, fbank, counts)
            if split == "train":
                own = (row.text for row in chunk if row.domain not in withheld)
                learned.update(itertools.chain.from_iterable(text.split() for text in own))
    return FolderCounts(splits, learned, vocabulary)


def _rows(path: Path, split: Split) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                yield _row(line, split, f"{path}:{number}")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; prepare the data again") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be UTF-8; {error}; prepare the data again") from None


def _row(line: str, split: Split, origin: str) -> Row:
    try:
        values = json.loads(line)
        return Row(
            utterance_id=str(values["id"]),
            split=split,
            seconds=float(values["duration"]),
            text=str(values["text"]),
            speaker=str(values.get("speaker", "")),
            domain=str(values.get("domain", "")),
        )
    except KeyError as error:
        raise ValueError(f"{origin}: no {error} field; prepare the data again") from None
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{origin}: must be a JSON object whose duration is a number; got {line.strip()[:80]}; "
            "prepare the data again"
        ) from None


def _encode(rows: Sequence[Row], model: Any, fbank: FbankConfig, counts: SplitCounts) -> None:
    encoded = []
    for row, tokens in zip(rows, model.encode([row.text for row in rows]), strict=True):
        required = len(tokens) + sum(map(eq, tokens, tokens[1:]))
        encoded.append(Encoded(row, len(tokens), _encoder_frames(row.seconds, fbank), required))
        if UNKNOWN in tokens:
            pieces = model.encode(row.text, out_type=str)
            unknown = [p for p, token in zip(pieces, tokens, strict=True) if token == UNKNOWN]
            counts.unknown_tokens += len(unknown)
            counts.unknown_characters.update("".join(unknown))
    counts.add_encoded(encoded)


def _encoder_frames(seconds: float, fbank: FbankConfig) -> int:
    num_samples = round(seconds * fbank.sample_rate)
    frames = max(0, 1 + (num_samples - fbank.frame_length) // fbank.frame_shift)
    return -(-frames // SUBSAMPLING)
