"""The two datasets of a run: one to train on, one to evaluate on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.data.batches import (
    Buckets,
    augment_examples,
    batch_by_length,
    extract_features,
    make_buckets,
    mask_features,
    read_examples,
    shuffle_examples,
    shuffle_shards,
)
from tfasr.features.extractor import FeatureExtractor


@dataclass(frozen=True, kw_only=True)
class TrainingPipeline:
    """Batches to train on, the same for the same seed and epoch.

    Args:
        shards: TFRecord files.
        domains: Domains to train on; empty means all.
        buckets: Length classes.
        batching: Limits and shuffle buffer.
        extractor: The features.
        augmentation: Of the waveforms.
        masking: Of the features.
        seed: The run's seed.
    """

    shards: Sequence[Path]
    domains: Sequence[str]
    buckets: Buckets
    batching: BatchConfig
    extractor: FeatureExtractor
    augmentation: AugmentConfig
    masking: SpecAugmentConfig
    seed: int

    def epoch(self, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """Batches of one epoch from batch `skip` on, as `model_inputs` and "id" and "text"."""
        rate, seed = self.extractor.fbank.sample_rate, self.seed
        examples = read_examples(
            shuffle_shards(self.shards, seed=seed, epoch=epoch),
            domains=self.domains,
            min_seconds=self.batching.min_seconds,
            max_seconds=self.batching.max_seconds,
            sample_rate=rate,
        )
        examples = shuffle_examples(
            examples, buffer=self.batching.shuffle_utterances, seed=seed, epoch=epoch
        )
        examples = augment_examples(examples, config=self.augmentation, seed=seed, epoch=epoch)
        batches = batch_by_length(examples, buckets=self.buckets, sample_rate=rate)
        batches = extract_features(batches.skip(skip), extractor=self.extractor)
        batches = mask_features(batches, config=self.masking, seed=seed, epoch=epoch)
        return batches.prefetch(4)


def every_example(
    shards: Sequence[Path], durations: Sequence[float], domains: Sequence[str], sample_rate: int
) -> tf.data.Dataset:
    """Every utterance of the shards once, as `parse_record` reads it, in order.

    Args:
        shards: TFRecord files.
        durations: Of their utterances, in seconds.
        domains: Domains to keep; empty means all.
        sample_rate: Of the shards, in hertz.
    """
    return read_examples(
        shards,
        domains=domains,
        min_seconds=0.0,
        max_seconds=max(durations) + 1,
        sample_rate=sample_rate,
    )


def evaluation_batches(
    shards: Sequence[Path],
    durations: Sequence[float],
    *,
    domains: Sequence[str] = (),
    extractor: FeatureExtractor,
    batch_seconds: float = 120.0,
) -> tf.data.Dataset:
    """Every utterance of the shards once, without augmentation, in a fixed order.

    Args:
        shards: TFRecord files.
        durations: Of their utterances, in seconds.
        domains: Domains to keep; empty means all.
        extractor: The features.
        batch_seconds: Audio in a full batch, padding included, in seconds.

    Returns:
        Dicts with "features", "num_frames", "tokens", "num_tokens", "id", "text", "speaker"
        and "domain".
    """
    rate = extractor.fbank.sample_rate
    batching = BatchConfig(
        batch_seconds=batch_seconds, min_seconds=0.0, max_seconds=max(durations) + 1
    )
    buckets = make_buckets(durations, batching)
    examples = every_example(shards, durations, domains, rate)
    batches = batch_by_length(examples, buckets=buckets, sample_rate=rate)
    return extract_features(batches, extractor=extractor).prefetch(4)
