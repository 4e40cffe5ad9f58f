"""Preparation of a corpus."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfasr.configs.audio import AudioConfig
from tfasr.configs.corpora import (
    FsddConfig,
    KaldiConfig,
    ManifestConfig,
    ShardConfig,
    SplitConfig,
    SyntheticConfig,
    TokenizerConfig,
)
from tfasr.configs.features import FbankConfig

# Of prepared data: what is there, and how it was made.
INDEX = "data.json"
# They make their own utterances, and so their own splits.
COMPOSED = ("fsdd", "synthetic")
# They are folders of named parts.
WITH_SUBSETS = ("librispeech", "kaldi", "csj", "common_voice")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Turns a corpus into manifests, a tokenizer, feature statistics and TFRecord shards.

    Args:
        corpus: How the source is laid out.
        out: The folder to write; it appears when it is complete.
        source: The corpus; "synthetic" needs none.
        subsets: Parts to take of LibriSpeech (its subsets), Kaldi and CSJ (data folders) and
            Common Voice (tables); empty means all that are there. What a part is called says
            whether it trains, validates or tests.
        splits: Another division into training, validation and test.
        kaldi: What Kaldi's and CSJ's folders may do.
        manifest: Where a manifest's recordings may lie.
        fsdd: How recorded digits are joined into strings.
        synthetic: Voices and sentences.
        audio: How recordings are read.
        fbank: The features; its sample rate is that of the prepared audio.
        tokenizer: SentencePiece, trained on the training text.
        shards: Size of the shards, what is withheld, what an unusable entry does.
        report: Write `report.html` into the folder: hours, speakers, lengths, tokens, what was
            skipped and why.
        runner: "processes" prepares on this machine; the name of an Apache Beam runner, such
            as DirectRunner or FlinkRunner, prepares there, and its workers must see `source`
            and `out` under the same absolute paths. All write the same shards.
        runner_options: Options of the Beam runner, such as "--flink_master=host:8081"; on the
            command line after "=", with commas between them.
        jobs: Processes side by side; 0 means as many as are worth their start, at most one for
            every two cores, as each decodes in threads of its own.
    """

    corpus: Literal["librispeech", "kaldi", "csj", "manifest", "common_voice", "fsdd", "synthetic"]
    out: Path
    source: Path | None = None
    subsets: tuple[str, ...] = ()
    splits: SplitConfig = field(default_factory=SplitConfig)
    kaldi: KaldiConfig = field(default_factory=KaldiConfig)
    manifest: ManifestConfig = field(default_factory=ManifestConfig)
    fsdd: FsddConfig = field(default_factory=FsddConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    fbank: FbankConfig = field(default_factory=FbankConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    report: bool = False
    runner: str = "processes"
    runner_options: tuple[str, ...] = ()
    jobs: int = 0

    def __post_init__(self) -> None:
        if self.corpus != "synthetic" and self.source is None:
            raise ValueError(f"corpus={self.corpus} needs --source, the folder it lies in")
        if self.subsets and self.corpus not in WITH_SUBSETS:
            raise ValueError(
                f"subsets are for {', '.join(WITH_SUBSETS)}; got corpus={self.corpus}, "
                f"subsets={','.join(self.subsets)}"
            )
        if self.corpus in COMPOSED and self.splits != SplitConfig():
            raise ValueError(
                f"corpus={self.corpus} makes its own splits, by the options of "
                f"--{self.corpus}; got other --splits"
            )
        if self.jobs < 0:
            raise ValueError(f"jobs must not be negative; got jobs={self.jobs}")
        if self.runner_options and self.runner == "processes":
            raise ValueError(
                f"runner_options are for Beam runners; got {' '.join(self.runner_options)}"
            )
