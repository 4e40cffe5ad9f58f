"""Lets the other blocks make up for the frozen ones, before a model is exported."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from tfasr.configs.export import RecoveryConfig
from tfasr.configs.seeds import counted_seed
from tfasr.configs.training import TrainConfig
from tfasr.data.pipelines import TrainingPipeline
from tfasr.export.freeze import Freezing
from tfasr.models.acoustic_model import AcousticModel
from tfasr.training.optimizer import make_optimizer
from tfasr.training.steps import Batch, Steps


def recover(
    model: AcousticModel,
    freezing: Freezing,
    pipeline: TrainingPipeline,
    training: TrainConfig,
    config: RecoveryConfig,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Trains a model with its frozen blocks fixed at what they will be exported as.

    It is the run's training but for the learning rate: its losses, batches, augmentation and
    dropout. Draws are counted by "recover" and the step, so that the same call gives the same
    weights.

    Args:
        model: Trained; settled and changed in place.
        freezing: Which blocks are frozen, and as what.
        pipeline: Batches to train on.
        training: The run's settings.
        config: For how long, and how fast.
        report: Called with each step's number and loss.

    Raises:
        ValueError: The loss is no number any more.
    """
    freezing.settle(model)
    for block in freezing.blocks:
        model.blocks[block].trainable = False
    settings = replace(
        training.optimizer, peak=config.peak, warmup=config.warmup, accumulate=1, average=0.0
    )
    optimizer = make_optimizer(settings)
    optimizer.build(model.trainable_variables)
    steps = Steps(model, model, optimizer, replace(training, optimizer=settings))
    for step, batch in enumerate(_batches(pipeline, config.steps), start=1):
        outcome = steps.take([batch], [counted_seed(training.seed, "recover", step)])
        if not np.isfinite([outcome.loss, outcome.gradient_norm]).all():
            raise ValueError(
                f"the loss must stay finite; got {outcome.loss} at step {step} of the recovery. "
                f"Lower recover.peak={config.peak}"
            )
        report(step, outcome.loss)


def _batches(pipeline: TrainingPipeline, steps: int) -> Iterator[Batch]:
    """Yields so many batches, epoch after epoch.

    Raises:
        ValueError: An epoch has none.
    """
    left, epoch = steps, 0
    while left:
        taken = 0
        for batch in pipeline.epoch(epoch, 0).take(left):
            taken += 1
            yield batch
        if not taken:
            raise ValueError("a recovery needs utterances to train on; got none")
        left, epoch = left - taken, epoch + 1
