"""From candidates to padded batches of features, `Dataset -> Dataset`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.data import BatchConfig
from tfasr.features.extractor import FeatureExtractor

MODEL_INPUTS = ("features", "num_frames", "tokens", "num_tokens")
# Edges are chosen among this many quantiles of the durations.
_QUANTILES = 400
# Tokens are padded to a multiple of this, so that few shapes occur.
_TOKEN_STEP = 16
# Batches that are made side by side, at most.
_BATCHES_AT_ONCE = 8

Example = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Buckets:
    """Length classes of one corpus.

    Args:
        edges: Upper edges in seconds, rising; the last one is the longest utterance taken.
        batch_sizes: Utterances in a full batch of each class.
    """

    edges: tuple[float, ...]
    batch_sizes: tuple[int, ...]

    def edge_samples(self, sample_rate: int) -> list[int]:
        """Samples that hold an utterance of each class; a changed speed may add one."""
        return [round(edge * sample_rate) + 1 for edge in self.edges]


def make_buckets(
    durations: Sequence[float], config: BatchConfig, speeds: Sequence[float] = (1.0,)
) -> Buckets:
    """Chooses the length classes that need least padding.

    Args:
        durations: Of the utterances, in seconds.
        config: Batch size and number of classes.
        speeds: Playback speeds of the augmentation, which stretch durations.

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
    heard = (np.array(kept)[:, None] / np.array(speeds)).ravel()
    edges = _least_padding(heard, config.num_buckets)
    sizes = [min(config.max_utterances, max(1, int(config.batch_seconds // e))) for e in edges]
    return Buckets(tuple(edges), tuple(sizes))


def _least_padding(durations: NDArray[np.float64], num_buckets: int) -> list[float]:
    """Edges with the least sum of (edge - duration), by dynamic programming over quantiles."""
    shares = np.linspace(0, 1, _QUANTILES + 1)
    edges = np.unique(np.quantile(durations, shares, method="higher"))
    counts = np.searchsorted(np.sort(durations), edges, side="right")
    # An utterance in a class costs its upper edge: cost[i, j] is that of a class from behind
    # edge i up to edge j.
    before = np.concatenate([[0], counts])
    cost = (counts[None] - before[:-1, None]) * edges[None]  # [i, j], of use where i <= j
    cost = np.where(np.tri(len(edges), k=-1, dtype=bool), np.inf, cost)
    best = cost[0]
    chosen = []
    for _ in range(1, min(num_buckets, len(edges))):
        # The classes before end at edge i - 1.
        totals = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        chosen.append(np.argmin(totals, 0))
        best = totals.min(0)
    last = len(edges) - 1
    ends = [last]
    for starts in reversed(chosen):
        last = starts[last] - 1
        ends.append(last)
    return [float(edges[end]) for end in reversed(ends)]


def within_limits(
    candidates: tf.data.Dataset,
    *,
    domains: Sequence[str] = (),
    min_seconds: float,
    max_seconds: float,
    sample_rate: int,
) -> tf.data.Dataset:
    """Keeps candidates of some domains whose length is admissible.

    Args:
        candidates: As a source lists them.
        domains: Domains to keep; empty means all.
        min_seconds: Shorter utterances are left out.
        max_seconds: Longer utterances are left out.
        sample_rate: Of the source, in hertz.
    """
    bounds = (int(min_seconds * sample_rate), int(max_seconds * sample_rate))

    def wanted(candidate: Example) -> tf.Tensor:
        samples = candidate["num_samples"]
        kept = (samples >= bounds[0]) & (samples <= bounds[1])
        if domains:
            kept &= tf.reduce_any(candidate["domain"] == tf.constant(list(domains)))
        return kept

    return candidates.filter(wanted)


def shuffle_examples(
    examples: tf.data.Dataset, *, buffer: int | tf.Tensor, seed: tuple[int, int] | tf.Tensor
) -> tf.data.Dataset:
    """Shuffles within a buffer, in an order that the seed [2] decides."""
    draw = tf.cast(seed[0], tf.int64)
    return examples.shuffle(buffer, seed=draw, reshuffle_each_iteration=False)


def batch_candidates(
    candidates: tf.data.Dataset, *, buckets: Buckets, sample_rate: int
) -> tf.data.Dataset:
    """Puts candidates of like length together.

    Args:
        candidates: Dicts with "key" and "num_samples".
        buckets: Length classes.
        sample_rate: Of the samples, in hertz.

    Returns:
        The keys of each batch, [B].
    """
    batches = candidates.map(
        lambda candidate: (candidate["key"], candidate["num_samples"])
    ).bucket_by_sequence_length(
        lambda key, num_samples: num_samples,
        bucket_boundaries=[edge + 1 for edge in buckets.edge_samples(sample_rate)],
        bucket_batch_sizes=[*buckets.batch_sizes, 1],
    )
    return batches.map(lambda keys, num_samples: keys)


def load_batches(
    key_batches: tf.data.Dataset, load: Callable[[tf.data.Dataset], tf.data.Dataset]
) -> tf.data.Dataset:
    """Loads whole batches side by side, in order.

    Args:
        key_batches: Keys [B].
        load: From a dataset of keys to one of examples.

    Returns:
        Dicts of [B, T], [B, U] and [B], padded with zeros.
    """

    def batch(keys: tf.Tensor) -> tf.data.Dataset:
        examples = load(tf.data.Dataset.from_tensor_slices(keys))
        return examples.padded_batch(tf.size(keys, tf.int64))

    # Each inner dataset has one element, so that the order is that of the keys.
    return key_batches.interleave(
        batch,
        cycle_length=_BATCHES_AT_ONCE,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def pad_to_edges(
    batches: tf.data.Dataset, *, buckets: Buckets, sample_rate: int
) -> tf.data.Dataset:
    """Pads "waveform" to its length class and "tokens" to a round number: few shapes occur."""
    edges = buckets.edge_samples(sample_rate)

    def pad(batch: Example) -> Example:
        samples = tf.shape(batch["waveform"])[1]
        place = tf.searchsorted(edges, [samples])[0]
        # What is longer than the last edge is a batch of its own.
        wide = tf.maximum(tf.gather([*edges, 0], place), samples)
        tokens = tf.shape(batch["tokens"])[1]
        return {
            **batch,
            "waveform": tf.pad(batch["waveform"], [[0, 0], [0, wide - samples]]),
            "tokens": tf.pad(batch["tokens"], [[0, 0], [0, -tokens % _TOKEN_STEP]]),
        }

    return batches.map(pad)


def extract_features(batches: tf.data.Dataset, *, extractor: FeatureExtractor) -> tf.data.Dataset:
    """Replaces "waveform" and "num_samples" by "features" [B, T, F] and "num_frames" [B]."""

    def apply(batch: Example) -> Example:
        features, frames = extractor(batch["waveform"], batch["num_samples"])
        rest = {k: v for k, v in batch.items() if k not in ("waveform", "num_samples")}
        return {**rest, "features": features, "num_frames": frames}

    return batches.map(apply, num_parallel_calls=tf.data.AUTOTUNE)


def model_inputs(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Keeps what training reads: no strings, which TensorFlow Federated would ship along."""
    return batches.map(lambda batch: {name: batch[name] for name in MODEL_INPUTS})
