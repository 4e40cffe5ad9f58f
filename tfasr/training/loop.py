"""The training loop: exact to resume, the same for the same seed."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import tensorflow as tf

from tfasr.artifacts.files import append_json_line, read_json_lines, write_json_lines
from tfasr.configs.seeds import counted_seed
from tfasr.configs.training import TrainConfig
from tfasr.data.pipelines import TrainingPipeline
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.churn import measure_churn
from tfasr.models.layout import Layout
from tfasr.training.checkpoints import Progress
from tfasr.training.churn_log import log_churn
from tfasr.training.hosts import ALONE, Hosts
from tfasr.training.optimizer import make_optimizer
from tfasr.training.run import Run
from tfasr.training.steps import Batch, Steps

_LOG_EVERY = 20


class Report(Protocol):
    """Shows how far a long job is."""

    def __call__(self, done: int, total: int, **figures: float) -> None: ...


@dataclass
class _Window:
    """Figures of the steps since the last log line."""

    losses: list[float]
    audio_seconds: float = 0.0
    input_wait: float = 0.0
    infeasible: int = 0
    started: float = 0.0


class Trainer:
    """Trains a run from wherever it stands.

    Without a moving average (`optimizer.average` 0) there is no second model: what is trained is
    validated and saved. Where it computes in bfloat16 a float32 copy stays, so that what is
    validated is what the run's users will compute.

    Args:
        run: The run's folder.
        pipeline: Its batches.
        config: Its settings; more steps than the run was made with prolong it.
        validate: From the model to figures by name, "wer" among them.
        hosts: That train the run together; the first of them validates and writes.
    """

    def __init__(
        self,
        run: Run,
        pipeline: TrainingPipeline,
        config: TrainConfig,
        validate: Callable[[AcousticModel], dict[str, float]],
        hosts: Hosts = ALONE,
    ) -> None:
        self.run = run
        self.hosts = hosts
        self.config = config
        self.pipeline = pipeline
        self.validate = validate
        self.model = run.initial_model(config.precision)
        self.optimizer = make_optimizer(self.config.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        # What is validated and saved as the run's model: the average of what is trained.
        self.average = self.model
        if config.optimizer.average or config.precision != "float32":
            self.average = run.initial_model(precision="float32")
        self.state = tf.train.Checkpoint(
            model=self.average,
            training=tf.train.Checkpoint(model=self.model, optimizer=self.optimizer),
        )
        self.steps = Steps(self.model, self.average, self.optimizer, config, hosts)
        self._last_validation: dict[str, float] = {}

    def train(self, report: Report) -> Progress:
        """Trains to the last step, a checkpoint after every validation.

        Args:
            report: Called after every step.

        Returns:
            Where the run stands at its end.

        Raises:
            ValueError: The loss is no number any more; names the step.
        """
        progress = self._resume()
        window = _Window([], started=time.monotonic())
        for batches, position, waited in self._groups(progress):
            before = time.monotonic()
            window.input_wait += waited
            epoch, taken = position
            # An error rate is kept with the weights that it was measured on, and no others.
            progress = Progress(
                step=progress.step + 1, epoch=epoch, batch=taken, seconds=progress.seconds
            )
            self._take_step(batches, progress.step, window)
            seconds = progress.seconds + waited + time.monotonic() - before
            progress = replace(progress, seconds=seconds)
            shown = {**self._figures(window, progress), **self._last_validation}
            report(progress.step, self.config.steps, **shown)
            due = progress.step % self.config.valid_every == 0
            due = due or progress.step == self.config.steps
            saved = due or self._is_checkpoint(progress.step)
            # A resumed run starts a window of its own, so every checkpoint ends one.
            if progress.step % _LOG_EVERY == 0 or saved:
                self._log({"step": progress.step, **self._figures(window, progress)})
                window = _Window([], started=time.monotonic())
            if due and self.hosts.is_chief:
                progress = self._validate(progress)
                window.started = time.monotonic()
            if saved:
                self._save(progress)
        return progress

    def _save(self, progress: Progress) -> None:
        if self.hosts.is_chief:
            self.run.checkpoints.save(self.state, progress)
        # A resumed run would begin with these weights on all hosts.
        self._follow_chief()

    def _follow_chief(self) -> None:
        averaged = [] if self.average is self.model else self.average.variables
        parts = (self.model.variables, averaged, self.optimizer.variables)
        self.hosts.follow_chief([variable for part in parts for variable in part])

    def _is_checkpoint(self, step: int) -> bool:
        every = self.config.checkpoint_every
        return bool(every) and step % every == 0

    def _resume(self) -> Progress:
        progress = self._restore() if self.hosts.is_chief else Progress()
        self._follow_chief()
        place = (progress.step, progress.epoch, progress.batch, progress.seconds)
        *counts, seconds = self.hosts.of_chief(place)
        step, epoch, batch = map(int, counts)
        return replace(progress, step=step, epoch=epoch, batch=batch, seconds=seconds)

    def _restore(self) -> Progress:
        self.run.checkpoints.remove_unfinished()
        steps = self.run.checkpoints.steps()
        progress = self.run.checkpoints.restore(self.state, steps[-1]) if steps else Progress()
        # What was logged after the checkpoint is about to be logged again.
        log = self.run.folder / "metrics.jsonl"
        if log.exists():
            write_json_lines(log, (r for r in read_json_lines(log) if r["step"] <= progress.step))
        return progress

    def _groups(self, progress: Progress) -> Iterator[tuple[list[Batch], tuple[int, int], float]]:
        """Yields a step's batches, the position after them, and the seconds waited for them."""
        group: list[Batch] = []
        waiting = 0.0
        for batch, position, waited in self._batches(progress):
            group.append(batch)
            waiting += waited
            if len(group) == self.steps.batches:
                yield group, position, waiting
                group, waiting = [], 0.0

    def _batches(self, progress: Progress) -> Iterator[tuple[Batch, tuple[int, int], float]]:
        """Yields this host's batches, the position after them, and the seconds waited for them.

        Hosts take batches in turn; the position is that after each has taken its own.
        """
        remaining = (self.config.steps - progress.step) * self.steps.batches
        epoch, taken = progress.epoch, progress.batch
        several = self.hosts.count > 1
        while remaining > 0:
            # One host alone sees the end of an epoch when it is there.
            total = self.pipeline.num_batches(epoch) if several else sys.maxsize
            asked = time.monotonic()
            for batch in self.pipeline.epoch(epoch, taken + self.hosts.index).take(remaining):
                taken += self.hosts.count
                remaining -= 1
                position = (epoch, taken) if taken <= total else (epoch + 1, taken - total)
                yield batch, position, time.monotonic() - asked
                asked = time.monotonic()
            if (total if several else taken) == 0:
                raise ValueError(f"{self.config.data}: holds no utterance to train on")
            # Hosts whose turn has not come begin the next epoch.
            epoch, taken = epoch + 1, taken - total if several else 0

    def _take_step(self, batches: Sequence[Batch], step: int, window: _Window) -> None:
        places = range(self.hosts.index, self.config.optimizer.accumulate, self.hosts.count)
        seeds = [counted_seed(self.config.seed, "dropout", step, place) for place in places]
        outcome = self.steps.take(batches, seeds)
        heard = sum(int(tf.reduce_sum(batch["num_frames"])) for batch in batches)
        losses, infeasible, frames = self.hosts.sums([outcome.loss, outcome.infeasible, heard])
        loss = losses / self.hosts.count
        if not np.isfinite([loss, outcome.gradient_norm]).all():
            raise ValueError(
                f"the loss and its gradient must stay finite; got {loss} and a norm of "
                f"{outcome.gradient_norm} at step {step}. "
                f"Lower optimizer.peak={self.config.optimizer.peak} or raise optimizer.warmup"
            )
        shift = self.pipeline.extractor.fbank.frame_shift_ms / 1000
        window.losses.append(loss)
        window.infeasible += int(infeasible)
        window.audio_seconds += frames * shift

    def _figures(self, window: _Window, progress: Progress) -> dict[str, float]:
        elapsed = max(time.monotonic() - window.started, 1e-9)
        return {
            "loss": float(np.mean(window.losses)),
            "audio_seconds_per_second": window.audio_seconds / elapsed,
            "input_wait_share": window.input_wait / elapsed,
            "epoch": progress.epoch,
            **({"infeasible": window.infeasible} if window.infeasible else {}),
        }

    def _validate(self, progress: Progress) -> Progress:
        figures = self.validate(self.average)
        self._log(
            {
                "step": progress.step,
                **{f"valid_{k.removeprefix('valid_')}": v for k, v in figures.items()},
            }
        )
        churn = measure_churn(Layout(self.average), self.config.seed, progress.step)
        log_churn(self._summary, churn)
        self._last_validation = figures
        return replace(progress, validation=figures)

    def _log(self, row: dict[str, float]) -> None:
        if not self.hosts.is_chief:
            return
        append_json_line(self.run.folder / "metrics.jsonl", row)
        with self._summary.as_default(step=int(row["step"])):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._summary.flush()

    @property
    def _summary(self) -> tf.summary.SummaryWriter:
        if not hasattr(self, "_writer"):
            self._writer = tf.summary.create_file_writer(str(self.run.folder / "tensorboard"))
        return self._writer
