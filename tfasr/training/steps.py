"""One optimizer step: gradients of a batch or more, the update, the moving average."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.training import TrainConfig
from tfasr.data.batches import MODEL_INPUTS
from tfasr.losses.objective import model_losses
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.dropout import split_seed
from tfasr.models.fusion import fusing
from tfasr.training.hosts import ALONE, Hosts
from tfasr.training.optimizer import update_average

Batch = dict[str, tf.Tensor]

_SEED = tf.TensorSpec([2], tf.int32)


@dataclass(frozen=True)
class Outcome:
    """What a step came to.

    Args:
        loss: Mean over its utterances; of several batches, the mean of their means.
        gradient_norm: Global, of all hosts' batches, before it was clipped.
        infeasible: Utterances too short for CTC.
    """

    loss: float
    gradient_norm: float
    infeasible: int


class Steps:
    """Takes optimizer steps.

    Args:
        model: What is trained.
        average: What follows it as a moving average.
        optimizer: Built on the model's variables.
        config: Objective, average's decay, batches a step, parts of a batch.
        hosts: That share the batches of a step.

    Raises:
        ValueError: A batch is to be parted whose statistics the model takes.
    """

    def __init__(
        self,
        model: AcousticModel,
        average: AcousticModel,
        optimizer: keras.optimizers.Optimizer,
        config: TrainConfig,
        hosts: Hosts = ALONE,
    ) -> None:
        self.model = model
        self.average = average
        self.optimizer = optimizer
        self.config = config
        self.hosts = hosts
        self.batches = config.optimizer.accumulate // hosts.count
        self.variables = model.trainable_variables
        # By the variables' own flags: those of blocks that are fixed are as before.
        whole = not all(variable.trainable for variable in model.variables)
        if config.optimizer.parallel > 1 and whole:
            raise ValueError(
                "optimizer.parallel must be 1 for a model with norms of batches; "
                f"got optimizer.parallel={config.optimizer.parallel}"
            )
        self._whole = self._function(self._update)
        self._sums: list[tf.Variable] = []
        if self.batches > 1:
            self._sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
            self._part = self._function(self._add)
            self._finish = tf.function(self._update_by_sums, autograph=False)

    def take(self, batches: Sequence[Batch], seeds: Sequence[tuple[int, int]]) -> Outcome:
        """Takes one step.

        Args:
            batches: This host's of the `optimizer.accumulate` of a step, with what `MODEL_INPUTS`
                names.
            seeds: Of each batch's dropout.
        """
        step = self._part if self._sums else self._whole
        outcomes = [
            step({name: batch[name] for name in MODEL_INPUTS}, tf.constant(seed))
            for batch, seed in zip(batches, seeds, strict=True)
        ]
        norm = self._finish() if self._sums else outcomes[0][2]
        losses = [float(loss) for loss, _, _ in outcomes]
        short = sum(int(count) for _, count, _ in outcomes)
        return Outcome(sum(losses) / len(losses), float(norm), short)

    def _function(self, use: Callable[[Sequence[tf.Tensor]], tf.Tensor]) -> Callable[..., Any]:
        gradients_of = self._gradients
        if self.config.optimizer.parallel > 1:
            gradients_of = self._side_by_side()

        # Nothing here branches on a tensor, and converting it all would take half of the start.
        @tf.function(input_signature=[self._signature, _SEED], autograph=False)
        def step(batch: Batch, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            loss, short, gradients = gradients_of(batch, seed)
            norm = use(gradients)
            return loss, short, norm

        return step  # type: ignore[no-any-return]

    @property
    def _signature(self) -> dict[str, tf.TensorSpec]:
        return {
            "features": tf.TensorSpec([None, None, self.model.num_mels], tf.float32),
            "num_frames": tf.TensorSpec([None], tf.int32),
            "tokens": tf.TensorSpec([None, None], tf.int32),
            "num_tokens": tf.TensorSpec([None], tf.int32),
        }

    def _gradients(
        self, batch: Batch, seed: tf.Tensor, share: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Gives the loss, how many utterances are too short, and a gradient for each variable.

        `share` [B] float says what each utterance counts in the loss, and leaves out those of
        none; None is for the mean.
        """
        with fusing():
            with tf.GradientTape() as tape:
                cost = model_losses(self.model, batch, self.config.objective, seed)
                if share is None:
                    loss, short = tf.reduce_mean(cost.losses), cost.short
                else:
                    loss, short = tf.reduce_sum(share * cost.losses), cost.short & (share > 0)
            gradients = tape.gradient(loss, self.variables)
        return loss, tf.reduce_sum(tf.cast(short, tf.int32)), gradients

    def _side_by_side(self) -> Callable[..., Any]:
        """Makes what gives the same as `_gradients`, of the parts of a batch."""
        count = self.config.optimizer.parallel

        @tf.function(
            input_signature=[self._signature, _SEED, tf.TensorSpec([None])], autograph=False
        )
        def of_part(batch: Batch, seed: tf.Tensor, share: tf.Tensor) -> Any:
            loss, short, gradients = self._gradients(batch, seed, share)
            return loss, short, [tf.convert_to_tensor(gradient) for gradient in gradients]

        def gradients_of(batch: Batch, seed: tf.Tensor) -> Any:
            traced = of_part.get_concrete_function()
            utterances = tf.shape(batch["num_tokens"])[0]
            size = -(-utterances // count)
            seeds = tf.stack(list(islice(split_seed(seed), count)))

            def add_part(part: tf.Tensor, *sums: Any) -> Any:
                # Alike in size, so that they share compiled programs: the last utterance fills up
                # the last parts, and counts once.
                places = part * size + tf.range(size)
                rows = tf.minimum(places, utterances - 1)
                share = tf.cast(places < utterances, tf.float32) / tf.cast(utterances, tf.float32)
                given = (
                    {name: tf.gather(of, rows) for name, of in batch.items()},
                    seeds[part],
                    share,
                )
                # It reads variables, and a call that says so would wait for the one before.
                results = tf.raw_ops.PartitionedCall(
                    args=[*tf.nest.flatten(given), *traced.captured_inputs],
                    Tout=[output.dtype for output in traced.outputs],
                    f=traced,
                )
                outcome = tf.nest.pack_sequence_as(traced.structured_outputs, results)
                return part + 1, *tf.nest.map_structure(tf.add, sums, outcome)

            # Calls in places of their own would each keep a graph of their own, of 0.1 GB.
            sums = 0.0, 0, [tf.zeros(variable.shape, variable.dtype) for variable in self.variables]
            _, *sums = tf.while_loop(
                lambda part, *_: part < count, add_part, (0, *sums), parallel_iterations=count
            )
            return sums

        return gradients_of

    def _update(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        gradients = self.hosts.mean(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        if self.average is not self.model:
            update_average(
                self.average.variables,
                self.model.variables,
                self.optimizer.iterations,
                self.config.optimizer.average,
            )
        return tf.linalg.global_norm(gradients)

    def _add(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(tf.convert_to_tensor(gradient) / self.batches)
        return tf.zeros([])

    def _update_by_sums(self) -> tf.Tensor:
        norm = self._update([total.read_value() for total in self._sums])
        with tf.control_dependencies([norm]):
            for total in self._sums:
                total.assign(tf.zeros_like(total))
        return norm
