"""The folder that `tfasr prepare` writes, as the other stages read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfasr.artifacts.files import read_json, read_json_lines, sha256_of
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import SPLITS, Split
from tfasr.configs.audio import AudioConfig
from tfasr.configs.data import Reading
from tfasr.configs.features import FbankConfig
from tfasr.configs.prepare import INDEX
from tfasr.data.recording_source import RecordingSource
from tfasr.data.recordings import reading_errors
from tfasr.data.sources import ShardSource, Source
from tfasr.features.extractor import FeatureStatistics
from tfasr.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PreparedData:
    """A folder of prepared data.

    Args:
        folder: What `tfasr prepare` wrote.

    Raises:
        ValueError: The folder is no prepared data.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / INDEX).is_file():
            hint = ""
            if self.folder.with_name(self.folder.name + ".partial").is_dir():
                hint = "; its preparation was interrupted, run the same `tfasr prepare` again"
            raise ValueError(f"{self.folder}: must be a folder made by `tfasr prepare`{hint}")

    @cached_property
    def index(self) -> dict[str, Any]:
        """What `data.json` says: settings, counts, seconds, shards and their checksums."""
        return dict(read_json(self.folder / INDEX))

    @property
    def fbank(self) -> FbankConfig:
        """The filterbank whose statistics were taken."""
        return FbankConfig(**self.index["fbank"])

    @property
    def withheld_domains(self) -> tuple[str, ...]:
        """Domains kept for later adaptation."""
        return tuple(self.index["withheld_domains"])

    @property
    def tokenizer(self) -> Path:
        """The SentencePiece model."""
        return self.folder / "tokenizer.model"

    @property
    def statistics(self) -> FeatureStatistics:
        """Mean and deviation of the training features.

        Raises:
            ValueError: The data has no training split.
        """
        path = self.folder / "cmvn.json"
        if not path.is_file():
            raise ValueError(
                f"{self.folder}: has no training split, so it can only be evaluated on"
            )
        values = read_json(path)
        return FeatureStatistics(tuple(values["mean"]), tuple(values["deviation"]))

    def shards(self, split: Split) -> list[Path]:
        """Shard files of a split, in order.

        Raises:
            ValueError: The split is empty; names those that are not.
        """
        files = [self.folder / row["file"] for row in self.index["splits"][split]["shards"]]
        if not files:
            filled = [name for name in SPLITS if self.index["splits"][name]["shards"]]
            raise ValueError(f"{self.folder}: split {split!r} is empty; it has {', '.join(filled)}")
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise ValueError(f"{missing[0]}: this shard is missing; prepare the data again")
        return files

    def source(self, split: Split, reading: Reading = "shards") -> Source:
        """The utterances of a split.

        Args:
            split: The split.
            reading: "shards" reads what was prepared; "recordings" decodes the recordings that
                it was prepared from.

        Raises:
            ValueError: The split is empty, or a shard is missing.
        """
        shards = self.shards(split)
        if reading == "shards":
            return ShardSource(shards, self.index.get("compression", "none"))
        tokenizer = Tokenizer(self.tokenizer)
        rows = self.manifest(split)
        return RecordingSource(
            self.folder, rows, [tokenizer.encode(row["text"]) for row in rows], self.reader
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Says in one line which file a dataset could not read; put it around the loop.

        Raises:
            ValueError: A shard or a recording is damaged; names it.
        """
        try:
            with reading_errors():
                yield
        except tf.errors.DataLossError:
            for split in SPLITS:
                for row in self.index["splits"][split]["shards"]:
                    if sha256_of(self.folder / row["file"]) != row["sha256"]:
                        raise ValueError(
                            f"{self.folder / row['file']}: this shard is damaged; remove "
                            f"{self.folder} and prepare the data again"
                        ) from None
            raise

    @property
    def reader(self) -> AudioReader:
        """How the recordings were read."""
        settings = read_json(self.folder / "settings.json").get("audio", {})
        return AudioReader(sample_rate=self.index["sample_rate"], settings=AudioConfig(**settings))

    def manifest(self, split: Split) -> list[dict[str, Any]]:
        """Rows of a split's manifest."""
        return read_json_lines(self.folder / f"{split}.jsonl")

    def durations(self, split: Split, domains: tuple[str, ...] = ()) -> list[float]:
        """Seconds of each utterance of a split.

        Args:
            split: The split.
            domains: Domains to keep; empty means all.

        Raises:
            ValueError: No utterance is of these domains; names those that are there.
        """
        rows = self.manifest(split)
        kept = [row["duration"] for row in rows if not domains or row["domain"] in domains]
        if not kept:
            present = sorted({row["domain"] for row in rows})
            raise ValueError(
                f"{self.folder}: split {split!r} must hold the domains asked for; "
                f"got {', '.join(domains)}, there are {', '.join(present) or 'none'}"
            )
        return kept

    def domains_to_train_on(self, chosen: tuple[str, ...]) -> tuple[str, ...]:
        """The domains to train on: those chosen, or all that are not withheld."""
        present = {row["domain"] for row in self.manifest("train")}
        return chosen or tuple(sorted(present - set(self.withheld_domains)))
