"""Preparation of a corpus."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfasr.configs.corpora import (
    FsddConfig,
    LibriSpeechConfig,
    ShardConfig,
    SyntheticConfig,
    TokenizerConfig,
)
from tfasr.configs.features import FbankConfig


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Turns a corpus into manifests, a tokenizer, feature statistics and TFRecord shards.

    Args:
        corpus: How the source is laid out.
        out: The folder to write; it appears when it is complete.
        source: The corpus; "synthetic" needs none.
        librispeech: Which subsets are train, valid and test.
        fsdd: How recorded digits are joined into strings.
        synthetic: Voices and sentences.
        fbank: The features; its sample rate is that of the prepared audio.
        tokenizer: SentencePiece, trained on the training text.
        shards: Size of the shards, what is withheld, what an unusable entry does.
    """

    corpus: Literal["librispeech", "fsdd", "manifest", "synthetic"]
    out: Path
    source: Path | None = None
    librispeech: LibriSpeechConfig = field(default_factory=LibriSpeechConfig)
    fsdd: FsddConfig = field(default_factory=FsddConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    fbank: FbankConfig = field(default_factory=FbankConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)

    def __post_init__(self) -> None:
        if self.corpus != "synthetic" and self.source is None:
            raise ValueError(f"corpus={self.corpus} needs --source, the folder it lies in")
