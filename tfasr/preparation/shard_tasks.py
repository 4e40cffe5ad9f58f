"""What is to be done for one shard, as any process can take it up; imports no TensorFlow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfasr.artifacts.files import read_json
from tfasr.audio.utterance import SPLITS, Split, Utterance
from tfasr.configs.prepare import PrepareConfig


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to write.

    Args:
        config: The preparation.
        folder: Where `shards/`, `audio/` and, if there is training text, `tokenizer.model` lie.
        listing: Hash of all utterances of the corpus.
        split: Of the utterances.
        index: Of the shard in its split.
        first_number: Place of the first utterance in its split.
        utterances: What is in the shard.
    """

    config: PrepareConfig
    folder: Path
    listing: str
    split: Split
    index: int
    first_number: int
    utterances: Sequence[Utterance]

    @property
    def name(self) -> str:
        """Names the shard's files."""
        return f"{self.split}-{self.index:05d}"

    @property
    def file(self) -> str:
        """The shard, seen from `folder`."""
        ending = ".gz" if self.config.shards.compression == "gzip" else ""
        return f"shards/{self.name}.tfrecord{ending}"

    @property
    def sidecar(self) -> Path:
        """What is known of the shard; it is written last."""
        return self.folder / "shards" / f"{self.name}.json"

    @property
    def is_written(self) -> bool:
        """Whether the shard is there, with all that the settings of now let in."""
        if not self.sidecar.is_file():
            return False
        before, limit = read_json(self.sidecar), self.config.audio.longest_seconds
        if not before["skipped"]:
            return bool(limit >= before["longest_seconds"])
        return self.config.shards.on_error == "skip" and limit == before["longest_seconds"]


def shard_tasks(
    config: PrepareConfig, folder: Path, listing: str, utterances: Sequence[Utterance]
) -> Iterator[ShardTask]:
    """Divides a corpus into shards: split by split, in the order of its utterances."""
    size = config.shards.utterances
    for split in SPLITS:
        own = [utterance for utterance in utterances if utterance.split == split]
        for index, first in enumerate(range(0, len(own), size)):
            yield ShardTask(
                config=config,
                folder=folder,
                listing=listing,
                split=split,
                index=index,
                first_number=first,
                utterances=own[first : first + size],
            )


def is_learned_from(utterance: Utterance, config: PrepareConfig) -> bool:
    """Whether tokenizer and feature statistics may see an utterance."""
    return utterance.split == "train" and utterance.domain not in config.shards.withheld_domains


def skip_reason(problem: Exception, config: PrepareConfig) -> str:
    """Gives the reason for which an entry is skipped.

    Raises:
        ValueError: No entry may be skipped.
    """
    if config.shards.on_error == "error":
        raise ValueError(f"{problem} (--shards.on_error skip counts such entries and goes on)")
    return str(problem)
