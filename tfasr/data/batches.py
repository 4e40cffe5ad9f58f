"""From shards to batches, `Dataset -> Dataset`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.data.shards import parse_record
from tfasr.features.augment import augment
from tfasr.features.extractor import FeatureExtractor
from tfasr.features.spec_augment import spec_augment

MODEL_INPUTS = ("features", "num_frames", "tokens", "num_tokens")


@dataclass(frozen=True)
class Buckets:
    """Length classes of one corpus.

    Args:
        edges: Upper edges in seconds, rising; the last one is the longest utterance taken.
        batch_sizes: Utterances in a full batch of each class.
    """

    edges: tuple[float, ...]
    batch_sizes: tuple[int, ...]


def make_buckets(durations: Sequence[float], config: BatchConfig, slowest: float = 1.0) -> Buckets:
    """Chooses length classes with equally many utterances each.

    Args:
        durations: Of the utterances, in seconds.
        config: Batch size and number of classes.
        slowest: Lowest playback speed of the augmentation, which stretches durations.

    Returns:
        The length classes.

    Raises:
        ValueError: No utterance has an admissible duration.
    """
    kept = [d for d in durations if config.min_seconds <= d <= config.max_seconds]
    if not kept:
        raise ValueError(
            "some utterance must last between min_seconds and max_seconds; "
            f"got none of {len(durations)} in [{config.min_seconds}, {config.max_seconds}] s"
        )
    shares = np.arange(1, config.num_buckets + 1) / config.num_buckets
    edges = sorted({float(e) for e in np.quantile(kept, shares, method="higher") / slowest})
    sizes = [min(config.max_utterances, max(1, int(config.batch_seconds // e))) for e in edges]
    return Buckets(tuple(edges), tuple(sizes))


def read_examples(
    shards: Sequence[Path],
    *,
    domains: Sequence[str] = (),
    min_seconds: float,
    max_seconds: float,
    sample_rate: int,
) -> tf.data.Dataset:
    """Reads shards in order.

    Args:
        shards: TFRecord files.
        domains: Domains to keep; empty means all.
        min_seconds: Shorter utterances are left out.
        max_seconds: Longer utterances are left out.
        sample_rate: Of the shards, in hertz.

    Returns:
        Dicts as `parse_record` makes them.
    """
    examples = tf.data.TFRecordDataset([str(path) for path in shards]).map(
        parse_record, num_parallel_calls=tf.data.AUTOTUNE
    )
    bounds = (int(min_seconds * sample_rate), int(max_seconds * sample_rate))
    examples = examples.filter(
        lambda example: (
            (example["num_samples"] >= bounds[0]) & (example["num_samples"] <= bounds[1])
        )
    )
    if not domains:
        return examples
    wanted = tf.constant(list(domains))
    return examples.filter(lambda example: tf.reduce_any(example["domain"] == wanted))


def shuffle_shards(shards: Sequence[Path], *, seed: int, epoch: int) -> list[Path]:
    """Puts the shards in this epoch's order."""
    order = counted_generator(seed, "shards", epoch).permutation(len(shards))
    return [shards[index] for index in order]


def shuffle_examples(
    examples: tf.data.Dataset, *, buffer: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """Shuffles within a buffer, in an order that the seed and the epoch decide."""
    draw = counted_seed(seed, "shuffle", epoch)[0]
    return examples.shuffle(buffer, seed=draw, reshuffle_each_iteration=False)


def augment_examples(
    examples: tf.data.Dataset, *, config: AugmentConfig, seed: int, epoch: int
) -> tf.data.Dataset:
    """Augments waveforms; the draws of an utterance are counted by its number and the epoch."""
    base = tf.constant(counted_seed(seed, "augment", epoch), tf.int32)

    def apply(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        own = tf.random.experimental.stateless_fold_in(base, tf.cast(example["number"], tf.int32))
        waveform = augment(example["waveform"], own, config)
        return {**example, "waveform": waveform, "num_samples": tf.size(waveform)}

    return examples.map(apply, num_parallel_calls=tf.data.AUTOTUNE)


def batch_by_length(
    examples: tf.data.Dataset, *, buckets: Buckets, sample_rate: int
) -> tf.data.Dataset:
    """Pads utterances of like duration together.

    Args:
        examples: Dicts with "waveform" [T], "num_samples", "tokens" [U] and scalars.
        buckets: Length classes.
        sample_rate: Of the waveforms, in hertz.

    Returns:
        Dicts of [B, T], [B, U] and [B], padded with zeros.
    """
    # Rounding of a changed speed may add a sample.
    bounds = [round(edge * sample_rate) + 2 for edge in buckets.edges]
    return examples.bucket_by_sequence_length(
        lambda example: example["num_samples"],
        bucket_boundaries=bounds,
        bucket_batch_sizes=[*buckets.batch_sizes, 1],
    )


def extract_features(batches: tf.data.Dataset, *, extractor: FeatureExtractor) -> tf.data.Dataset:
    """Replaces "waveform" and "num_samples" by "features" [B, T, F] and "num_frames" [B]."""

    def apply(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features, frames = extractor(batch["waveform"], batch["num_samples"])
        rest = {k: v for k, v in batch.items() if k not in ("waveform", "num_samples")}
        return {**rest, "features": features, "num_frames": frames}

    return batches.map(apply, num_parallel_calls=tf.data.AUTOTUNE)


def mask_features(
    batches: tf.data.Dataset, *, config: SpecAugmentConfig, seed: int, epoch: int
) -> tf.data.Dataset:
    """Applies SpecAugment; the draws are counted by the batch's first utterance and the epoch."""
    base = tf.constant(counted_seed(seed, "spec_augment", epoch), tf.int32)

    def apply(batch: dict[str, Any]) -> dict[str, Any]:
        first = tf.cast(batch["number"][0], tf.int32)
        own = tf.random.experimental.stateless_fold_in(base, first)
        masked = spec_augment(batch["features"], batch["num_frames"], own, config)
        return {**batch, "features": masked}

    return batches.map(apply, num_parallel_calls=tf.data.AUTOTUNE)


def model_inputs(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Keeps what training reads: no strings, which TensorFlow Federated would ship along."""
    return batches.map(lambda batch: {name: batch[name] for name in MODEL_INPUTS})
