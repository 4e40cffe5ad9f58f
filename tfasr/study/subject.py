"""What is studied: a checkpoint of a run, on an evaluation set."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import tensorflow as tf

from tfasr.configs.loading import read_yaml
from tfasr.configs.model import ModelConfig
from tfasr.configs.study import StudyConfig
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.batch_statistics import BatchStatistics, require_statistics
from tfasr.study.reset import ResetStudy, study_reset
from tfasr.study.resets import Reset
from tfasr.study.results import Results
from tfasr.training.run import Run

Progress = Callable[[int, int], None]


class Subject:
    """A checkpoint of a run, and the utterances that it is evaluated on.

    Args:
        config: The study.
        step: Of the checkpoint; 0 means the run's model.
        seeds: Of the fresh draws of each part's weights.

    Raises:
        ValueError: The run names no seed, or can't hear the data.
    """

    def __init__(self, config: StudyConfig, step: int, seeds: Sequence[int]) -> None:
        self.config = config
        self.seeds = tuple(seeds)
        self.run = Run(config.run)
        self.data = PreparedData(config.data)
        self.run.check_data(self.data)
        _require_seed(self.run)
        self.step_asked = step
        self.step = step or self.run.checkpoints.best_step()
        self.domains = config.domains or self.data.domains_to_train_on(())

    @cached_property
    def model(self) -> AcousticModel:
        """The trained model, without the dropout that it was trained with.

        Raises:
            ValueError: It has batch normalisation without statistics.
        """
        trained = self.run.trained_model(self.step_asked)
        # Statistics of batch normalisation are those of the training mode, less its dropout.
        model = build_model(_without_dropout(self.run.model_config))
        model.set_weights(trained.get_weights())
        require_statistics(Layout(model).entries)
        return model

    @cached_property
    def layout(self) -> Layout:
        """Its variables."""
        return Layout(self.model)

    @cached_property
    def model_hash(self) -> str:
        """Hash of its weights."""
        return weights_hash(self.layout)

    @cached_property
    def data_hash(self) -> str:
        """Hash of the utterances' names and texts."""
        heard = "\n".join(f"{row['id']}\t{row['text']}" for row in self._rows)
        return hashlib.sha256(heard.encode()).hexdigest()

    @property
    def words(self) -> int:
        """Reference words in its utterances."""
        return sum(len(row["text"].split()) for row in self._rows)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        rows = self.data.manifest(self.config.split)
        return [row for row in rows if row["domain"] in self.domains]

    @cached_property
    def results(self) -> Results:
        """What was found so far."""
        settings = {
            "model": self.model_hash,
            "data": self.data_hash,
            "seed": self.run.config.seed,
            "draws": len(self.seeds),
            "statistics": self.config.statistics,
        }
        return Results(self.config.folder, settings)

    def batches(self) -> tf.data.Dataset:
        """What it is evaluated on, with labels."""
        return evaluation_batches(
            self.data.source(self.config.split),
            self.data.durations(self.config.split, self.domains),
            domains=self.domains,
            extractor=self.run.extractor,
        )

    def evaluate(self, resets: Sequence[Reset], progress: Progress) -> None:
        """Tries the resets whose results are missing, and the intact model.

        Args:
            resets: What to reset.
            progress: Called with how many of how many are done.
        """
        missing = self.results.missing(resets)
        if not missing and self.results.has_intact:
            return
        study = self._study
        if not self.results.has_intact:
            self.results.add_intact(study.intact_errors(), study.words())
        for count, reset in enumerate(missing, len(resets) - len(missing) + 1):
            self.results.add(reset, study_reset(study, reset, self.seeds))
            progress(count, len(resets))

    @cached_property
    def _study(self) -> ResetStudy:
        statistics = None
        if self.config.statistics == "reestimated":
            statistics = BatchStatistics(self.model)
        pieces = self.run.tokenizer.pieces
        return ResetStudy(self.model, pieces, self.run.config.seed, self.batches(), statistics)


def _require_seed(run: Run) -> None:
    """Refuses a run that can't tell its first weights."""
    path = run.folder / "config.yaml"
    if run.exists and "seed" not in read_yaml(path).get("train", {}):
        raise ValueError(
            f"{path}: must name the seed of the run, train.seed, for the first weights are "
            "rebuilt from it; got none"
        )


def _without_dropout(config: ModelConfig) -> ModelConfig:
    name = "encoder" if config.family == "conformer" else config.family
    changed: dict[str, Any] = {name: replace(getattr(config, name), dropout=0.0)}
    return replace(config, **changed)
