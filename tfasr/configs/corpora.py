"""Where speech comes from: one configuration a corpus."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

OnError = Literal["error", "skip"]
Compression = Literal["none", "gzip"]
SplitName = Literal["train", "valid", "test"]


def parse_takes(text: str) -> frozenset[int]:
    """Reads "0-4,7" as {0, 1, 2, 3, 4, 7}; "" is the empty set.

    Raises:
        ValueError: A part is neither a number nor a rising range.
    """
    takes: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f'takes must be numbers and rising ranges like "0-4,7"; got {text!r}')
        takes.update(range(first, last + 1))
    return frozenset(takes)


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={number}")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which utterances train, validate and test.

    No speaker is on two sides unless `shared_speakers` says so, or the corpus's own division.

    Args:
        by: "corpus" takes the corpus's own division, and sets `valid_share` of the training
            speakers aside where it has nothing to validate on. "speaker" draws speakers,
            "hash" decides by a hash of the speaker's name, or of the utterance's id where there
            is none, so that a growing corpus moves nobody; "list" reads ids or speakers from
            files and trains on the others.
        valid_share: Share of the speakers that validate, in [0, 1).
        test_share: Share of the speakers that test, in [0, 1); for "speaker" and "hash".
        valid_list: For "list": a file of utterance ids or speakers that validate, one a line.
        test_list: For "list": the same for testing.
        shared_speakers: Let a speaker be on two sides; "speaker" and "hash" then divide
            utterances.
        seed: Chooses the speakers.
    """

    by: Literal["corpus", "speaker", "hash", "list"] = "corpus"
    valid_share: float = 0.05
    test_share: float = 0.0
    valid_list: Path | None = None
    test_list: Path | None = None
    shared_speakers: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.valid_share, self.test_share) < 0 or self.valid_share + self.test_share >= 1:
            raise ValueError(
                "valid_share and test_share must not be negative and must leave a share to train "
                f"on; got valid_share={self.valid_share}, test_share={self.test_share}"
            )
        listed = self.valid_list is not None or self.test_list is not None
        if listed != (self.by == "list"):
            raise ValueError(
                "splits by list need valid_list or test_list, and no others take them; "
                f"got by={self.by}, valid_list={self.valid_list}, test_list={self.test_list}"
            )


@dataclass(frozen=True, kw_only=True)
class KaldiConfig:
    """Kaldi data folders: `wav.scp`, `text` and, where they are there, `segments`, `utt2spk`.

    Args:
        commands: What a `wav.scp` entry that is a command (it ends in "|") does: "refuse" names
            it, "run" runs it in a shell and reads the audio that it writes. Run only what you
            trust.
    """

    commands: Literal["refuse", "run"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """JSON lines that name recordings.

    Args:
        root: The folder that relative paths may not leave; where it is not given, that of the
            manifest. An absolute path may lie anywhere.
    """

    root: Path | None = None


@dataclass(frozen=True, kw_only=True)
class FsddSplit:
    """One split of `FsddConfig`.

    Args:
        strings: How many.
        takes: That they may use.
        speakers: That they may use; empty means all.
        sessions: Parts of the takes, each with strings of its own.
    """

    strings: int
    takes: frozenset[int]
    speakers: tuple[str, ...]
    sessions: int = 1

    def named(self, speaker: str, take: int) -> str:
        """The speaker, with the session of a take of theirs where there are several."""
        if self.sessions == 1:
            return speaker
        return f"{speaker}-{sorted(self.takes).index(take) * self.sessions // len(self.takes)}"


@dataclass(frozen=True, kw_only=True)
class FsddConfig:
    """Free Spoken Digit Dataset, joined into strings of digits of one speaker.

    A recording is `{digit}_{speaker}_{take}.wav`. Which takes and speakers a split may use is
    free as long as no two splits that have strings may use the same recording.

    Args:
        train_strings: Strings to train on; 0 or more, like the next two.
        valid_strings: Strings to validate on.
        test_strings: Strings to test on.
        min_digits: Fewest digits in a string.
        max_digits: Most digits in a string.
        min_silence: Shortest pause before, between and after digits, in seconds.
        max_silence: Longest such pause, in seconds.
        train_takes: Takes of the training strings, as "10-49" or "0,2,5-9".
        valid_takes: Takes of the validation strings.
        test_takes: Takes of the test strings.
        train_speakers: Speakers of the training strings; empty means all.
        valid_speakers: Speakers of the validation strings; empty means all.
        test_speakers: Speakers of the test strings; empty means all.
        sessions: Parts into which the training takes are divided in their order, as if recorded
            on different days: a string has takes of one, and SPEAKER-0, SPEAKER-1 and so on are
            speakers, and federated clients, of their own.
        seed: Chooses digits, takes and pauses.
    """

    train_strings: int = 3000
    valid_strings: int = 300
    test_strings: int = 300
    min_digits: int = 3
    max_digits: int = 7
    min_silence: float = 0.05
    max_silence: float = 0.3
    train_takes: str = "10-49"
    valid_takes: str = "5-9"
    test_takes: str = "0-4"
    train_speakers: tuple[str, ...] = ()
    valid_speakers: tuple[str, ...] = ()
    test_speakers: tuple[str, ...] = ()
    sessions: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= max(1, len(parse_takes(self.train_takes))):
            raise ValueError(
                "sessions must be at least 1 and at most the takes of train_takes; "
                f"got sessions={self.sessions}, train_takes={self.train_takes!r}"
            )
        for name, split in self.splits.items():
            if split.strings < 0:
                raise ValueError(
                    f"{name}_strings must be at least 0; got {name}_strings={split.strings}"
                )
        if not 1 <= self.min_digits <= self.max_digits:
            raise ValueError(
                "min_digits must be at least 1 and at most max_digits; "
                f"got min_digits={self.min_digits}, max_digits={self.max_digits}"
            )
        if not 0 <= self.min_silence <= self.max_silence:
            raise ValueError(
                "min_silence must be at least 0 and at most max_silence; "
                f"got min_silence={self.min_silence} s, max_silence={self.max_silence} s"
            )
        self._require_disjoint_splits()

    @property
    def splits(self) -> dict[SplitName, FsddSplit]:
        """What each split is made of."""
        return {
            "train": FsddSplit(
                strings=self.train_strings,
                takes=parse_takes(self.train_takes),
                speakers=self.train_speakers,
                sessions=self.sessions,
            ),
            "valid": FsddSplit(
                strings=self.valid_strings,
                takes=parse_takes(self.valid_takes),
                speakers=self.valid_speakers,
            ),
            "test": FsddSplit(
                strings=self.test_strings,
                takes=parse_takes(self.test_takes),
                speakers=self.test_speakers,
            ),
        }

    def _require_disjoint_splits(self) -> None:
        spoken = [(name, split) for name, split in self.splits.items() if split.strings]
        for (name, split), (other_name, other) in combinations(spoken, 2):
            takes = ", ".join(map(str, sorted(split.takes & other.takes)))
            speakers = _shared_speakers(split.speakers, other.speakers)
            if takes and speakers:
                raise ValueError(
                    f"no recording may be in two splits; got takes {takes} of {speakers} "
                    f"in both {name} and {other_name}"
                )


def _shared_speakers(speakers: Collection[str], others: Collection[str]) -> str:
    """Names the speakers of both, where empty means all; "" is none."""
    if not speakers and not others:
        return "all speakers"
    return ", ".join(sorted(set(speakers or others) & set(others or speakers)))


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Short sentences spoken by espeak-ng in many voices, in two domains.

    "close" is a quiet room, a microphone of each speaker's own; "telephone" has other speakers
    with other accents, a 300 to 3,400 Hz band and background noise. A speaker is in one domain
    only, and no validation or test sentence is ever a training sentence of anybody.

    Args:
        grammar: "commands" to a voice assistant, or "digits": strings of two to four of them.
        sample_rate: Of the prepared audio, in hertz; at least 8,000.
        close_speakers: Speakers of the domain "close", 0 to 48.
        telephone_speakers: Speakers of the domain "telephone", 0 to 48.
        train_sentences: Training sentences of each speaker.
        valid_sentences: Validation sentences of each speaker.
        test_sentences: Test sentences of each speaker.
        noise_snr: Lowest and highest signal-to-noise ratio of the domain "telephone", in dB,
            within the band.
        jobs: Processes that speak side by side; 0 means one a core.
        seed: Chooses voices, sentences and noise.
    """

    grammar: Literal["commands", "digits"] = "commands"
    sample_rate: int = 16000
    close_speakers: int = 24
    telephone_speakers: int = 16
    train_sentences: int = 40
    valid_sentences: int = 4
    test_sentences: int = 8
    noise_snr: tuple[float, float] = (15.0, 30.0)
    jobs: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sample_rate < 8000:
            raise ValueError(
                "sample_rate must be at least 8000 to hold the telephone band; "
                f"got sample_rate={self.sample_rate}"
            )
        for name in ("close_speakers", "telephone_speakers"):
            if not 0 <= getattr(self, name) <= 48:
                raise ValueError(f"{name} must be 0 to 48; got {name}={getattr(self, name)}")
        for name in ("train_sentences", "valid_sentences", "test_sentences", "jobs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {name}={getattr(self, name)}")
        if self.noise_snr[0] > self.noise_snr[1]:
            raise ValueError(
                f"noise_snr must be the lowest, then the highest; got noise_snr={self.noise_snr}"
            )


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The SentencePiece model that turns text into token ids.

    Args:
        kind: SentencePiece's model type.
        vocabulary: Pieces, the unknown piece included. For "char" it is an upper limit.
        model: A SentencePiece model to encode with; none is trained then. With that of a run,
            RUN/tokenizer.model, the run can go on training on this corpus.
    """

    kind: Literal["unigram", "bpe", "char"] = "unigram"
    vocabulary: int = 1024
    model: Path | None = None

    def __post_init__(self) -> None:
        _require_positive(vocabulary=self.vocabulary)


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """TFRecord shards of 16-bit PCM with token ids.

    Args:
        utterances: Most utterances in one shard.
        compression: Of the shards; "gzip" saves disk and costs time at every reading.
        withheld_domains: Domains kept for later adaptation: neither the tokenizer nor the
            feature statistics see them, and training leaves them out unless told otherwise.
        on_error: What an unusable entry does: "error" stops, "skip" names, counts and skips it.
    """

    utterances: int = 256
    compression: Compression = "none"
    withheld_domains: tuple[str, ...] = field(default=())
    on_error: OnError = "error"

    def __post_init__(self) -> None:
        _require_positive(utterances=self.utterances)
