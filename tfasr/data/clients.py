"""One dataset a speaker: what a federated client has on its device."""

import collections
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tensorflow as tf

from tfasr.artifacts.files import atomic_path, read_json, write_json
from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.seeds import counted_seed
from tfasr.data.augmentation import augment_examples, mask_features
from tfasr.data.banks import Banks
from tfasr.data.batches import MODEL_INPUTS, extract_features, shuffle_examples
from tfasr.data.prepared import PreparedData
from tfasr.data.shards import parse_record
from tfasr.features.extractor import FeatureExtractor

INDEX = "clients.json"
# What a client's round draws, each from a seed of its own.
_DRAWS = ("client_shuffle", "client_augment", "client_spec_augment", "client_dropout")


@dataclass(frozen=True)
class Client:
    """One speaker's training utterances.

    Args:
        speaker: Who speaks.
        file: TFRecord file.
        utterances: In it.
        seconds: Of speech in it.
    """

    speaker: str
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
    data: PreparedData, folder: Path, *, domains: tuple[str, ...], limits: BatchConfig
) -> list[Client]:
    """Sorts the training utterances by speaker, one file each; the folder appears whole.

    Args:
        data: Prepared data.
        folder: Where the files go. One that is there already is read, not written.
        domains: Domains to keep; empty means all.
        limits: Shortest and longest utterance.

    Returns:
        The clients, by speaker.

    Raises:
        ValueError: No utterance is left, or one has no speaker.
    """
    if not (folder / INDEX).is_file():
        data.durations("train", domains)
        rate = data.index["sample_rate"]
        with atomic_path(folder) as staged:
            staged.mkdir()
            tallies = _sort_by_speaker(data.shards("train"), staged, domains, limits, rate)
            rows = [
                {
                    "speaker": speaker,
                    "file": tally.file,
                    "utterances": tally.utterances,
                    "seconds": tally.samples / rate,
                }
                for speaker, tally in sorted(tallies.items())
            ]
            if not rows:
                raise ValueError(
                    f"{data.folder}: some training utterance must last between "
                    f"{limits.min_seconds} and {limits.max_seconds} s; got none"
                )
            write_json(staged / INDEX, rows)
    return read_clients(folder)


def read_clients(folder: Path) -> list[Client]:
    """Reads what `write_clients` wrote."""
    return [
        Client(row["speaker"], folder / row["file"], row["utterances"], row["seconds"])
        for row in read_json(folder / INDEX)
    ]


def _sort_by_speaker(
    shards: Sequence[Path],
    folder: Path,
    domains: Sequence[str],
    limits: BatchConfig,
    sample_rate: int,
) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = {}
    for shard in shards:
        groups: dict[str, list[bytes]] = collections.defaultdict(list)
        for record, speaker, domain, samples in _records(shard):
            seconds = samples / sample_rate
            if domains and domain not in domains:
                continue
            if not limits.min_seconds <= seconds <= limits.max_seconds:
                continue
            if not speaker:
                raise ValueError(f"{shard}: clients are speakers; an utterance names none")
            tally = tallies.setdefault(speaker, _Tally(f"{len(tallies):05d}.tfrecord"))
            tally.utterances += 1
            tally.samples += samples
            groups[speaker].append(record)
        for speaker, records in groups.items():
            _append(folder / tallies[speaker].file, records)
    return tallies


def _records(shard: Path) -> Iterator[tuple[bytes, str, str, int]]:
    def about(record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        example = parse_record(record)
        return record, example["speaker"], example["domain"], example["num_samples"]

    records = tf.data.TFRecordDataset(str(shard)).map(about, num_parallel_calls=tf.data.AUTOTUNE)
    for record, speaker, domain, samples in records.as_numpy_iterator():
        yield record, speaker.decode(), domain.decode(), int(samples)


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
    """A client's batches, the same for the same seed, round and speaker.

    Args:
        extractor: The features.
        augmentation: Of the waveforms; a client has no folders of noise or rooms, and makes
            synthetic ones.
        masking: Of the features.
        batch: Utterances in a batch.
        steps: Most batches in a round; an utterance is in one of them at most.
        seed: The run's seed.
    """

    extractor: FeatureExtractor
    augmentation: AugmentConfig
    masking: SpecAugmentConfig
    batch: int
    steps: int
    seed: int

    def round(self, client: Client, number: int) -> tf.data.Dataset:
        """Batches of one client in one round, as `batch_spec` says.

        Stock TensorFlow operations on a file: a TFF worker knows no others, and takes the
        dataset as its graph.
        """
        seeds = [counted_seed(self.seed, draw, client.speaker, number) for draw in _DRAWS]
        made = self._trace(str(client.file.resolve()), client.utterances, seeds)
        return tf.data.experimental.from_variant(made, batch_spec(self.extractor.fbank.num_mels))

    @cached_property
    def _trace(self) -> Callable[..., tf.Tensor]:
        # Tracing these maps anew takes half a second a client, as long as its training.
        signature = [
            tf.TensorSpec([], tf.string),
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([len(_DRAWS), 2], tf.int64),
        ]

        @tf.function(input_signature=signature)
        def trace(file: tf.Tensor, utterances: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            return tf.data.experimental.to_variant(self._batches(file, utterances, seeds))

        return trace  # type: ignore[no-any-return]

    def _batches(self, file: tf.Tensor, utterances: tf.Tensor, seeds: tf.Tensor) -> tf.data.Dataset:
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
            examples.take(self.steps * self.batch),
            config=self.augmentation,
            seed=augmenting,
            banks=Banks(),
            sample_rate=self.extractor.fbank.sample_rate,
        )
        batches = extract_features(examples.padded_batch(self.batch), extractor=self.extractor)
        batches = mask_features(batches, config=self.masking, seed=masking)
        return batches.enumerate().map(inputs)
