"""The two datasets of a run: one to train on, one to evaluate on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.data.augmentation import augment_examples, drawn_speed_samples, mask_features
from tfasr.data.banks import Banks
from tfasr.data.batches import (
    Buckets,
    batch_candidates,
    extract_features,
    load_batches,
    make_buckets,
    pad_to_edges,
    shuffle_examples,
    within_limits,
)
from tfasr.data.service import require_dispatcher
from tfasr.data.sources import Source
from tfasr.features.extractor import FeatureExtractor

# What an epoch draws, each from a seed of its own.
_DRAWS = ("shuffle", "augment", "spec_augment")


@dataclass(frozen=True, kw_only=True)
class TrainingPipeline:
    """Batches to train on, the same for the same seed and epoch.

    What is shuffled and batched are keys and lengths, known before any audio is touched; so
    skipping the batches that an interrupted run has seen costs next to nothing.

    Args:
        source: The utterances.
        domains: Domains to train on; empty means all.
        buckets: Length classes.
        batching: Limits, shuffle buffer and data service.
        extractor: The features.
        augmentation: Of the waveforms.
        masking: Of the features.
        banks: Recorded noise and rooms that the augmentation asks for.
        every: Of the batches it gives the first and then every so manieth, 1 for all: hosts
            that train together take them in turn.
        seed: The run's seed.
    """

    source: Source
    domains: Sequence[str]
    buckets: Buckets
    batching: BatchConfig
    extractor: FeatureExtractor
    augmentation: AugmentConfig
    masking: SpecAugmentConfig
    banks: Banks = field(default_factory=Banks)
    every: int = 1
    seed: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1; got every={self.every}")

    def num_batches(self, epoch: int) -> int:
        """Counts the batches of an epoch, those of other hosts too; decodes no audio."""
        items = self._items(epoch)
        shuffling, augmenting, _ = (tf.constant(seed) for seed in self._seeds(epoch))
        keys = self._keys(tf.constant(items), shuffling, augmenting)
        return int(keys.reduce(np.int64(0), lambda count, _: count + 1))

    def epoch(self, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """Batches of one epoch from batch `skip` on, as `model_inputs` and "id" and "text".

        Batches are counted over all hosts.
        """
        items, seeds = self._items(epoch), self._seeds(epoch)
        trace, spec = self._traced
        if not self.batching.service:
            made = trace(items, seeds, skip)
            return tf.data.experimental.from_variant(made, spec).prefetch(4)
        require_dispatcher(self.batching.service)
        # Every worker of the service would skip as many.
        made = trace(items, seeds, 0)
        service = tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=f"grpc://{self.batching.service}",
        )
        return tf.data.experimental.from_variant(made, spec).apply(service).skip(skip)

    def _items(self, epoch: int) -> NDArray[Any]:
        items = self.source.items()
        order = counted_generator(self.seed, "items", epoch).permutation(len(items))
        shuffled: NDArray[Any] = items[order]
        return shuffled

    def _seeds(self, epoch: int) -> list[tuple[int, int]]:
        return [counted_seed(self.seed, draw, epoch) for draw in _DRAWS]

    @cached_property
    def _traced(self) -> tuple[Callable[..., tf.Tensor], Any]:
        # Tracing the maps anew would cost a second an epoch.
        items = self.source.items()
        specs = []

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.as_dtype(items.dtype)),
                tf.TensorSpec([len(_DRAWS), 2], tf.int32),
                tf.TensorSpec([], tf.int64),
            ],
            autograph=False,
        )
        def trace(items: tf.Tensor, seeds: tf.Tensor, skip: tf.Tensor) -> tf.Tensor:
            batches = self._batches(items, seeds, skip)
            specs.append(batches.element_spec)
            return tf.data.experimental.to_variant(batches)

        return trace.get_concrete_function(), specs[0]

    def _batches(self, items: tf.Tensor, seeds: tf.Tensor, skip: tf.Tensor) -> tf.data.Dataset:
        shuffling, augmenting, masking = tf.unstack(seeds)
        rate = self.extractor.fbank.sample_rate

        def load(keys: tf.data.Dataset) -> tf.data.Dataset:
            return augment_examples(
                self.source.load(keys),
                config=self.augmentation,
                seed=augmenting,
                banks=self.banks,
                sample_rate=rate,
            )

        keys = self._keys(items, shuffling, augmenting).skip(skip)
        if self.every > 1:
            keys = keys.shard(self.every, 0)
        batches = load_batches(keys, load)
        batches = pad_to_edges(batches, buckets=self.buckets, sample_rate=rate)
        batches = extract_features(batches, extractor=self.extractor)
        return mask_features(batches, config=self.masking, seed=masking)

    def _keys(
        self, items: tf.Tensor, shuffling: tf.Tensor, augmenting: tf.Tensor
    ) -> tf.data.Dataset:
        """The keys of each batch of an epoch, [B]; `augmenting` decides how long they last."""
        rate = self.extractor.fbank.sample_rate

        def stretched(candidate: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            samples = drawn_speed_samples(
                candidate["number"],
                candidate["num_samples"],
                speeds=self.augmentation.speeds,
                seed=augmenting,
            )
            return {**candidate, "num_samples": samples}

        candidates = within_limits(
            self.source.candidates(items),
            domains=self.domains,
            min_seconds=self.batching.min_seconds,
            max_seconds=self.batching.max_seconds,
            sample_rate=rate,
        )
        return self._shuffled_keys(candidates.map(stretched), shuffling)

    def _shuffled_keys(self, candidates: tf.data.Dataset, seed: tf.Tensor) -> tf.data.Dataset:
        rate, buffer = self.extractor.fbank.sample_rate, self.batching.shuffle_utterances
        if not self.batching.service:
            candidates = shuffle_examples(candidates, buffer=buffer, seed=seed)
            return batch_candidates(candidates, buckets=self.buckets, sample_rate=rate)
        # TensorFlow 2.14's service gives every worker all of a dataset that is shuffled and then
        # grouped: there it is batches that are shuffled.
        keys = batch_candidates(candidates, buckets=self.buckets, sample_rate=rate)
        batches = max(1, buffer // max(self.buckets.batch_sizes))
        return shuffle_examples(keys, buffer=batches, seed=seed)


def every_example(
    source: Source, durations: Sequence[float], domains: Sequence[str], sample_rate: int
) -> tf.data.Dataset:
    """Every utterance of a source once, as `parse_record` reads it, in order.

    Args:
        source: The utterances.
        durations: Of them, in seconds.
        domains: Domains to keep; empty means all.
        sample_rate: Of the source, in hertz.
    """
    candidates = _every_candidate(source, durations, domains, sample_rate)
    return source.load(candidates.map(lambda candidate: candidate["key"]))


def _every_candidate(
    source: Source, durations: Sequence[float], domains: Sequence[str], sample_rate: int
) -> tf.data.Dataset:
    return within_limits(
        source.candidates(tf.constant(source.items())),
        domains=domains,
        min_seconds=0.0,
        max_seconds=max(durations) + 1,
        sample_rate=sample_rate,
    )


def evaluation_batches(
    source: Source,
    durations: Sequence[float],
    *,
    domains: Sequence[str] = (),
    extractor: FeatureExtractor,
    batch_seconds: float = 120.0,
) -> tf.data.Dataset:
    """Every utterance of a source once, without augmentation, in a fixed order.

    Args:
        source: The utterances.
        durations: Of them, in seconds.
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
    candidates = _every_candidate(source, durations, domains, rate)
    keys = batch_candidates(candidates, buckets=buckets, sample_rate=rate)
    batches = load_batches(keys, source.load)
    return extract_features(batches, extractor=extractor).prefetch(4)
