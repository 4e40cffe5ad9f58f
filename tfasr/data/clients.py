"""One dataset a client: what it has on its device."""

import collections
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tensorflow as tf

from tfasr.artifacts.files import atomic_path, read_json, write_json
from tfasr.configs.clients import ClientsConfig
from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.data.augmentation import augment_examples, mask_features
from tfasr.data.banks import Banks
from tfasr.data.batches import MODEL_INPUTS, extract_features, shuffle_examples
from tfasr.data.partition import NOBODY, Spoken, deal
from tfasr.data.prepared import PreparedData
from tfasr.data.shards import parse_record
from tfasr.features.extractor import FeatureExtractor

INDEX = "clients.json"
# What a client's round draws, each from a seed of its own.
_DRAWS = ("client_shuffle", "client_augment", "client_spec_augment", "client_dropout")


@dataclass(frozen=True)
class Client:
    """One client's training utterances.

    Args:
        name: Of the speaker or domain, or a counted one.
        file: TFRecord file.
        utterances: In it.
        seconds: Of speech in it.
    """

    name: str
    file: Path
    utterances: int
    seconds: float


@dataclass
class _Tally:
    """What has been written of one client."""

    file: str
    utterances: int = 0
    samples: int = 0


def write_clients(
    data: PreparedData,
    folder: Path,
    *,
    domains: tuple[str, ...],
    limits: BatchConfig,
    config: ClientsConfig,
    seed: int,
) -> list[Client]:
    """Deals the training utterances to clients, one file each; the folder appears whole.

    Args:
        data: Prepared data.
        folder: Where the files go. One that is there already is read, not written.
        domains: Domains to keep; empty means all.
        limits: Shortest and longest utterance.
        config: Who the clients are.
        seed: The run's.

    Returns:
        The clients, by name.

    Raises:
        ValueError: No utterance is left, they can't be dealt as asked for, or a client that was
            written has no data any more.
    """
    if not (folder / INDEX).is_file():
        data.durations("train", domains)
        compression = data.index.get("compression", "none")
        shards = [_Shard(path, compression) for path in data.shards("train")]
        kept = _Kept(domains, limits, data.index["sample_rate"])
        spoken = [
            Spoken(row.speaker, row.domain)
            for shard in shards
            for row in shard.rows()
            if kept.has(row)
        ]
        if not spoken:
            raise ValueError(
                f"{data.folder}: some training utterance must last between "
                f"{limits.min_seconds} and {limits.max_seconds} s; got none"
            )
        try:
            owners = deal(spoken, config, seed)
        except ValueError as error:
            raise ValueError(f"{data.folder}: {error}") from None
        with atomic_path(folder) as staged:
            staged.mkdir()
            tallies = _write_files(shards, kept, owners, staged)
            rows = [
                {
                    "name": name,
                    "file": tally.file,
                    "utterances": tally.utterances,
                    "seconds": tally.samples / kept.sample_rate,
                }
                for name, tally in sorted(tallies.items())
            ]
            write_json(staged / INDEX, rows)
    return read_clients(folder)


def read_clients(folder: Path) -> list[Client]:
    """Reads what `write_clients` wrote.

    Raises:
        ValueError: A client has no data.
    """
    clients = [
        Client(row["name"], folder / row["file"], row["utterances"], row["seconds"])
        for row in read_json(folder / INDEX)
    ]
    for client in clients:
        if not client.utterances or not client.file.is_file() or not client.file.stat().st_size:
            raise ValueError(
                f"{client.file}: client {client.name} must have data; got none. "
                f"Remove {folder} to have its files written again"
            )
    return clients


@dataclass(frozen=True)
class _Row:
    """One record of a shard, and what is known of it."""

    record: bytes
    speaker: str
    domain: str
    samples: int


@dataclass(frozen=True)
class _Shard:
    path: Path
    compression: str

    def rows(self) -> Iterator[_Row]:
        def about(record: tf.Tensor) -> tuple[tf.Tensor, ...]:
            example = parse_record(record)
            return record, example["speaker"], example["domain"], example["num_samples"]

        kind = "" if self.compression == "none" else "GZIP"
        records = tf.data.TFRecordDataset(str(self.path), kind)
        rows = records.map(about, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator()
        for record, speaker, domain, samples in rows:
            yield _Row(record, speaker.decode(), domain.decode(), int(samples))


@dataclass(frozen=True)
class _Kept:
    """Which utterances are dealt at all."""

    domains: tuple[str, ...]
    limits: BatchConfig
    sample_rate: int

    def has(self, row: _Row) -> bool:
        seconds = row.samples / self.sample_rate
        known = not self.domains or row.domain in self.domains
        return known and self.limits.min_seconds <= seconds <= self.limits.max_seconds


def _write_files(
    shards: Sequence[_Shard], kept: _Kept, owners: Sequence[str], folder: Path
) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = {}
    waiting = iter(owners)
    for shard in shards:
        groups: dict[str, list[bytes]] = collections.defaultdict(list)
        for row in filter(kept.has, shard.rows()):
            owner = next(waiting)
            if owner == NOBODY:
                continue
            tally = tallies.setdefault(owner, _Tally(f"{len(tallies):05d}.tfrecord"))
            tally.utterances += 1
            tally.samples += row.samples
            groups[owner].append(row.record)
        for owner, records in groups.items():
            _append(folder / tallies[owner].file, records)
    return tallies


def _append(path: Path, records: Sequence[bytes]) -> None:
    # A writer can't append, and one open file a speaker would be too many; but TFRecord files
    # may be joined byte by byte.
    part = path.with_suffix(".part")
    with tf.io.TFRecordWriter(str(part)) as writer:
        for record in records:
            writer.write(record)
    with path.open("ab") as whole, part.open("rb") as new:
        shutil.copyfileobj(new, whole)
    part.unlink()


def batch_spec(num_mels: int) -> collections.OrderedDict[str, tf.TensorSpec]:
    """What a client's batch is made of.

    Args:
        num_mels: Mel bins F.

    Returns:
        "features" [B, T, F], "num_frames" [B], "tokens" [B, U], "num_tokens" [B] and the
        "seed" [2] of the step's dropout.
    """
    return collections.OrderedDict(
        features=tf.TensorSpec([None, None, num_mels], tf.float32),
        num_frames=tf.TensorSpec([None], tf.int32),
        tokens=tf.TensorSpec([None, None], tf.int32),
        num_tokens=tf.TensorSpec([None], tf.int32),
        seed=tf.TensorSpec([2], tf.int32),
    )


@dataclass(frozen=True, kw_only=True)
class ClientPipeline:
    """A client's batches, the same for the same seed, round and client.

    Args:
        extractor: The features.
        augmentation: Of the waveforms; a client has no folders of noise or rooms, and makes
            synthetic ones.
        masking: Of the features.
        batch: Utterances in a batch.
        steps: Most batches in a round; an utterance is in one of them at most.
        straggler_share: Probability that a client has fewer steps than these.
        seed: The run's seed.
    """

    extractor: FeatureExtractor
    augmentation: AugmentConfig
    masking: SpecAugmentConfig
    batch: int
    steps: int
    straggler_share: float
    seed: int

    def most_steps(self, client: Client) -> int:
        """Steps that a client has time for in a round: `steps`, or a straggler's own number."""
        generator = counted_generator(self.seed, "client_steps", client.name)
        slow = generator.random() < self.straggler_share
        return int(generator.integers(1, self.steps)) if slow and self.steps > 1 else self.steps

    def num_steps(self, client: Client) -> int:
        """Steps that a client makes in a round, with the utterances that it has."""
        return min(self.most_steps(client), math.ceil(client.utterances / self.batch))

    def round(self, client: Client, number: int) -> tf.data.Dataset:
        """Batches of one client in one round, as `batch_spec` says.

        Stock TensorFlow operations on a file: a TFF worker knows no others, and takes the
        dataset as its graph.
        """
        seeds = [counted_seed(self.seed, draw, client.name, number) for draw in _DRAWS]
        counts = (client.utterances, self.most_steps(client))
        made = self._trace(str(client.file.resolve()), counts, seeds)
        return tf.data.experimental.from_variant(made, batch_spec(self.extractor.fbank.num_mels))

    @cached_property
    def _trace(self) -> Callable[..., tf.Tensor]:
        # Tracing these maps anew takes half a second a client, as long as its training.
        signature = [
            tf.TensorSpec([], tf.string),
            tf.TensorSpec([2], tf.int64),
            tf.TensorSpec([len(_DRAWS), 2], tf.int64),
        ]

        @tf.function(input_signature=signature, autograph=False)
        def trace(file: tf.Tensor, counts: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            return tf.data.experimental.to_variant(self._batches(file, counts, seeds))

        return trace  # type: ignore[no-any-return]

    def _batches(self, file: tf.Tensor, counts: tf.Tensor, seeds: tf.Tensor) -> tf.data.Dataset:
        utterances, steps = tf.unstack(counts)
        shuffling, augmenting, masking, dropping = tf.unstack(tf.cast(seeds, tf.int32))

        def inputs(
            step: tf.Tensor, batch: dict[str, tf.Tensor]
        ) -> collections.OrderedDict[str, tf.Tensor]:
            seed = tf.random.experimental.stateless_fold_in(dropping, tf.cast(step, tf.int32))
            seeded = {**batch, "seed": seed}
            return collections.OrderedDict((n, seeded[n]) for n in (*MODEL_INPUTS, "seed"))

        examples = tf.data.TFRecordDataset(file).map(parse_record)
        examples = shuffle_examples(examples, buffer=utterances, seed=shuffling)
        examples = augment_examples(
            examples.take(steps * self.batch),
            config=self.augmentation,
            seed=augmenting,
            banks=Banks(),
            sample_rate=self.extractor.fbank.sample_rate,
        )
        batches = extract_features(examples.padded_batch(self.batch), extractor=self.extractor)
        batches = mask_features(batches, config=self.masking, seed=masking)
        return batches.enumerate().map(inputs)
