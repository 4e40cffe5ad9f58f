"""Checkpoints that appear whole or not at all."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfasr.artifacts.files import atomic_path, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands.

    Args:
        step: Optimizer steps taken.
        epoch: Epoch that the next batch is of.
        batch: Batches already taken of that epoch.
        seconds: Training time so far, in seconds.
        validation: Latest figures by name, such as {"wer": 0.1}; empty before the first.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of a run, `step-00001000/` and so on.

    Args:
        folder: Where they are.
        keep: How many of the newest are kept; the one with the lowest error rate stays too.
        keep_best: How many of those with the lowest validation loss are kept besides.
        keep_every: Those of steps that this divides are kept too; 0 for none.

    Raises:
        ValueError: None is to be kept.
    """

    def __init__(
        self, folder: Path, keep: int = 2, keep_best: int = 0, keep_every: int = 0
    ) -> None:
        if keep < 1:
            raise ValueError(f"a checkpoint at least must be kept; got keep={keep}")
        self.folder = folder
        self.keep = keep
        self.keep_best = keep_best
        self.keep_every = keep_every

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, rising."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def path(self, step: int) -> Path:
        """Folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def progress(self, step: int) -> Progress:
        """Reads where the run stood at a checkpoint."""
        return Progress(**read_json(self.path(step) / "progress.json"))

    def best_step(self) -> int:
        """The checkpoint with the lowest validation error rate, the newest of equals.

        Raises:
            ValueError: There is no checkpoint.
        """
        steps = self.steps()
        if not steps:
            raise ValueError(f"{self.folder}: holds no checkpoint; run `tfasr train` first")
        return min(steps, key=lambda step: (self._error_rate(step), -step))

    def lowest_losses(self, count: int) -> list[int]:
        """The steps of so many checkpoints with the lowest validation losses, rising."""
        losses = {step: self.progress(step).validation.get("valid_loss") for step in self.steps()}
        known = [step for step, loss in losses.items() if loss is not None]
        return sorted(sorted(known, key=lambda step: (losses[step], -step))[:count])

    @property
    def average(self) -> Path:
        """Folder of the average of several checkpoints; there once training has made it."""
        return self.folder / "average"

    def _error_rate(self, step: int) -> float:
        return self.progress(step).validation.get("wer", float("inf"))

    def remove_unfinished(self) -> None:
        """Removes what a killed process was writing."""
        for half in self.folder.glob(".step-*"):
            shutil.rmtree(half)

    def save(self, checkpoint: tf.train.Checkpoint, progress: Progress) -> None:
        """Writes a checkpoint, then removes those that need not be kept."""
        with atomic_path(self.path(progress.step)) as staged:
            staged.mkdir()
            checkpoint.write(str(staged / "state"))
            write_json(staged / "progress.json", asdict(progress))
        kept = {self.best_step(), *self.steps()[-self.keep :], *self.lowest_losses(self.keep_best)}
        for step in self.steps():
            if step not in kept and not (self.keep_every and step % self.keep_every == 0):
                shutil.rmtree(self.path(step))

    def restore(self, checkpoint: tf.train.Checkpoint, step: int) -> Progress:
        """Reads a checkpoint into all of the given objects.

        Raises:
            ValueError: There is no such checkpoint, or it is of another model.
        """
        if not self.path(step).is_dir():
            raise ValueError(f"{self.path(step)}: no such checkpoint; there are {self.steps()}")
        _read(checkpoint, self.path(step))
        return self.progress(step)

    def restore_average(self, checkpoint: tf.train.Checkpoint) -> None:
        """Reads the average of several checkpoints.

        Raises:
            ValueError: It is of another model.
        """
        _read(checkpoint, self.average)

    def write_average(self, model: keras.Model, steps: Sequence[int]) -> None:
        """Averages the models of checkpoints and writes the average, whole or not at all.

        Args:
            model: Of the checkpoints' kind; left with the average's weights.
            steps: Of the checkpoints.

        Source: Wu (2022), "Deep Sparse Conformer", section 4.1.
        """
        checkpoint = tf.train.Checkpoint(model=model)
        sums = [np.zeros(variable.shape) for variable in model.variables]
        for step in steps:
            self.restore(checkpoint, step)
            for total, variable in zip(sums, model.variables, strict=True):
                total += variable.numpy()
        for total, variable in zip(sums, model.variables, strict=True):
            variable.assign(total / len(steps))
        with atomic_path(self.average) as staged:
            staged.mkdir()
            checkpoint.write(str(staged / "state"))
            write_json(staged / "steps.json", list(steps))


def _read(checkpoint: tf.train.Checkpoint, folder: Path) -> None:
    try:
        status = checkpoint.read(str(folder / "state"))
        status.assert_existing_objects_matched()
        # A model alone may be read from the checkpoint of a training.
        status.expect_partial()
        _require_same_size(checkpoint, folder / "state")
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder}: does not fit this model; {reason}") from None


def _require_same_size(checkpoint: tf.train.Checkpoint, path: Path) -> None:
    """Refuses a model that would leave some of the saved model's variables unread."""
    saved = [name for name, _ in tf.train.list_variables(str(path)) if name.startswith("model/")]
    model = getattr(checkpoint, "model", None)
    if model is not None and len(saved) != len(model.variables):
        raise ValueError(f"it holds {len(saved)} variables, the model has {len(model.variables)}")
