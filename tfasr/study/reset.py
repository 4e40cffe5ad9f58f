"""Reset parts of a trained model, and listen."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.decoding.first_best import first_best
from tfasr.decoding.greedy import detokenize
from tfasr.evaluation.error_rates import count_word_errors
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.fusion import inferring
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.study.batch_statistics import BatchStatistics, is_statistic
from tfasr.study.resets import Reset

# The draw that gives the weights of step 0.
FIRST_WEIGHTS = 0


@dataclass
class _Batch:
    """One batch on its way through the intact model.

    `first` is what block 0 takes in, `encoding` what the block at hand does, either with its
    mask.
    """

    first: tuple[tf.Tensor, tf.Tensor]
    encoding: tuple[tf.Tensor, tf.Tensor]
    references: list[str]


class ResetStudy:
    """Evaluates a model with parts of it reset.

    The batches are decoded once and kept. Resetting block k leaves what blocks 0 to k - 1 give
    as it was, so that is kept too: to reset each block in turn costs about half of as many whole
    evaluations, if they are asked for upwards. Memory is two encodings of every batch.

    Args:
        model: The trained model; its weights are as before after every call.
        pieces: Surfaces of its tokens.
        run_seed: The seed that its first weights came from.
        batches: What to evaluate on, as `evaluation_batches` makes them.
        statistics: Makes those of batch normalisation anew after each reset; None keeps them.
            The moving averages themselves are never reset.

    Source: "Ambient layers", section 2.3.
    """

    def __init__(
        self,
        model: AcousticModel,
        pieces: Sequence[str],
        run_seed: int,
        batches: Iterable[dict[str, tf.Tensor]],
        statistics: BatchStatistics | None = None,
    ) -> None:
        self.model = model
        self.layout = Layout(model)
        self.run_seed = run_seed
        self.statistics = statistics
        dim = model.subsampling.dim
        encoding = tf.TensorSpec([None, None, dim], tf.float32)
        mask = tf.TensorSpec([None, None], tf.bool)
        with inferring():
            self._blocks = [
                tf.function(partial(_run, model, index), autograph=False).get_concrete_function(
                    encoding, mask
                )
                for index in range(len(model.blocks))
            ]

        @tf.function(input_signature=[encoding, mask], autograph=False)
        def texts(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            frames = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
            with inferring():
                return detokenize(first_best(model, model.conclude(x, mask), frames), pieces)

        self._texts = texts
        self._batches = [self._first(batch) for batch in batches]
        self._next = 0

    def _first(self, batch: dict[str, tf.Tensor]) -> _Batch:
        encoding = self.model.subsample(batch["features"], batch["num_frames"])
        return _Batch(encoding, encoding, [text.decode() for text in batch["text"].numpy()])

    def words(self) -> NDArray[np.int64]:
        """Reference words of each utterance, [N] int64."""
        references = [text for batch in self._batches for text in batch.references]
        return count_word_errors(references, references).length

    def intact_errors(self) -> NDArray[np.int64]:
        """Word errors of each utterance with nothing reset, [N] int64."""
        return self._errors_from(self._next)

    def errors(self, reset: Reset, draw: int) -> NDArray[np.int64]:
        """Word errors of each utterance with parts of the model reset.

        Args:
            reset: The parts. Going upwards by the lowest block is fast: below it, the work of
                the blocks in between is done again.
            draw: `FIRST_WEIGHTS`, or any other number for fresh weights.

        Returns:
            [N] int64.

        Raises:
            ValueError: The model has no such parts.
        """
        lowest = reset.blocks[0]
        entries = [entry for entry in reset.entries(self.layout) if not is_statistic(entry)]
        self._go_to(lowest)
        above = [
            entry
            for block in range(lowest, self.layout.num_blocks)
            for entry in self.layout.of_block(block)
            if is_statistic(entry)
        ]
        changed = [*entries, *above]
        trained = [entry.variable.numpy() for entry in changed]
        initialize(entries, self.run_seed, draw)
        try:
            if self.statistics is not None:
                self.statistics.estimate(lowest, [batch.encoding for batch in self._batches])
            return self._errors_from(lowest)
        finally:
            for entry, value in zip(changed, trained, strict=True):
                entry.variable.assign(value)

    def _go_to(self, block: int) -> None:
        if block < self._next:
            for batch in self._batches:
                batch.encoding = batch.first
            self._next = 0
        for passed in range(self._next, block):
            for batch in self._batches:
                batch.encoding = self._blocks[passed](*batch.encoding)
        self._next = block

    def _errors_from(self, block: int) -> NDArray[np.int64]:
        errors = []
        for batch in self._batches:
            x, mask = batch.encoding
            for run_block in self._blocks[block:]:
                x, mask = run_block(x, mask)
            texts = [text.decode() for text in self._texts(x, mask).numpy()]
            errors.append(count_word_errors(batch.references, texts).errors)
        return np.concatenate(errors)


def _run(
    model: AcousticModel, index: int, x: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs one block: what it gives, and its mask."""
    block = model.blocks[index]
    y = block(x, mask=mask, **model.visible(index, tf.shape(x)[1]))
    return y, block.compute_mask(x, mask)


@dataclass(frozen=True)
class ResetErrors:
    """Word errors of each utterance with parts of the model reset.

    Args:
        reinitialised: [N], with the weights of step 0.
        rerandomised: [draws, N], with fresh weights; the draws may be none.
        seconds: What all those evaluations took.
    """

    reinitialised: NDArray[np.int64]
    rerandomised: NDArray[np.int64]
    seconds: float


def study_reset(study: ResetStudy, reset: Reset, seeds: Sequence[int]) -> ResetErrors:
    """Resets parts of a model to their first weights, and to fresh ones for each seed."""
    started = time.monotonic()
    first = study.errors(reset, FIRST_WEIGHTS)
    fresh = np.array([study.errors(reset, seed) for seed in seeds], np.int64)
    seconds = time.monotonic() - started
    return ResetErrors(first, fresh.reshape(len(seeds), len(first)), seconds)
