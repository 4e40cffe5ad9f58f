"""Reset one block of a trained model at a time, and listen."""

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
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

# The draw that gives the weights of step 0.
FIRST_WEIGHTS = 0


@dataclass
class _Batch:
    """One batch on its way through the intact model.

    `encoding` is what the next block to be studied takes in.
    """

    encoding: tf.Tensor
    mask: tf.Tensor
    references: list[str]


class ResetStudy:
    """Evaluates a model with one block reset, for each of its blocks in turn.

    Resetting block k leaves what blocks 0 to k - 1 give as it was, so those encodings are kept:
    a study costs about half of as many whole evaluations.

    Args:
        model: The trained model; its weights are as before after every call.
        pieces: Surfaces of its tokens.
        run_seed: The seed that its first weights came from.
        batches: What to evaluate on, as `evaluation_batches` makes them.

    Source: "Ambient layers", section 2.3.
    """

    def __init__(
        self,
        model: AcousticModel,
        pieces: Sequence[str],
        run_seed: int,
        batches: Iterable[dict[str, tf.Tensor]],
    ) -> None:
        self.model = model
        self.layout = Layout(model)
        self.run_seed = run_seed
        dim = model.subsampling.dim
        encoding = tf.TensorSpec([None, None, dim], tf.float32)
        mask = tf.TensorSpec([None, None], tf.bool)
        self._blocks = [
            tf.function(partial(_run, model, index), autograph=False).get_concrete_function(
                encoding, mask
            )
            for index in range(len(model.blocks))
        ]

        @tf.function(input_signature=[encoding, mask], autograph=False)
        def texts(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            frames = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
            return detokenize(first_best(model, model.conclude(x, mask), frames), pieces)

        self._texts = texts
        self._batches = [self._first(batch) for batch in batches]
        self._next = 0

    def _first(self, batch: dict[str, tf.Tensor]) -> _Batch:
        encoding, mask = self.model.subsample(batch["features"], batch["num_frames"])
        return _Batch(encoding, mask, [text.decode() for text in batch["text"].numpy()])

    def words(self) -> NDArray[np.int64]:
        """Reference words of each utterance, [N] int64."""
        references = [text for batch in self._batches for text in batch.references]
        return count_word_errors(references, references).length

    def intact_errors(self) -> NDArray[np.int64]:
        """Word errors of each utterance with no block reset, [N] int64."""
        return self._errors_from(self._next)

    def errors_with_reset(self, block: int, draw: int) -> NDArray[np.int64]:
        """Word errors of each utterance with a block reset.

        Args:
            block: Index of the block, not below that of an earlier call.
            draw: `FIRST_WEIGHTS`, or any other number for fresh weights.

        Returns:
            [N] int64.

        Raises:
            ValueError: The block lies below one that was already studied.
        """
        self._advance(block)
        entries = self.layout.of_block(block)
        trained = [entry.variable.numpy() for entry in entries]
        initialize(entries, self.run_seed, draw)
        try:
            return self._errors_from(block)
        finally:
            for entry, value in zip(entries, trained, strict=True):
                entry.variable.assign(value)

    def _advance(self, block: int) -> None:
        if block < self._next:
            raise ValueError(f"blocks are studied upwards; got block={block} after {self._next}")
        for passed in range(self._next, block):
            for batch in self._batches:
                batch.encoding, batch.mask = self._blocks[passed](batch.encoding, batch.mask)
        self._next = block

    def _errors_from(self, block: int) -> NDArray[np.int64]:
        errors = []
        for batch in self._batches:
            x, mask = batch.encoding, batch.mask
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
class BlockErrors:
    """Word errors of each utterance with one block reset.

    Args:
        reinitialised: [N], with the block's weights of step 0.
        rerandomised: [draws, N], with fresh weights.
    """

    reinitialised: NDArray[np.int64]
    rerandomised: NDArray[np.int64]


def study_block(study: ResetStudy, block: int, draws: int) -> BlockErrors:
    """Resets a block to its first weights and to `draws` fresh ones."""
    return BlockErrors(
        study.errors_with_reset(block, FIRST_WEIGHTS),
        np.stack([study.errors_with_reset(block, draw) for draw in range(1, draws + 1)]),
    )
