"""Training that lets the other blocks make up for the frozen ones: centrally, or on clients."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from pipelines.progress import ProgressLine
from pipelines.train import training_pipeline
from tfasr.artifacts.files import write_text
from tfasr.configs.export import ExportConfig
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.loading import to_mapping, to_yaml
from tfasr.data.prepared import PreparedData
from tfasr.export.freeze import Freezing
from tfasr.export.recovery import recover
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.ranking import Ranking
from tfasr.training.checkpoints import Progress
from tfasr.training.run import Run


def recover_centrally(
    config: ExportConfig, source: Run, model: AcousticModel, freezing: Freezing, data: PreparedData
) -> None:
    """Trains a model in place, on the training split of `data`."""
    line = ProgressLine("recover")
    pipeline = training_pipeline(source.config, source, data)

    def report(step: int, loss: float) -> None:
        line(step, config.recover.steps, loss=loss)

    with data.reading():
        recover(model, freezing, pipeline, source.config, config.recover, report)


def recover_on_clients(
    config: ExportConfig, source: Run, model: AcousticModel, freezing: Freezing, ranking: Ranking
) -> None:
    """Trains a model in place, by federated rounds that send the frozen blocks one way only.

    Args:
        config: Its `recover` and `data`.
        source: The run.
        model: Its trained model; settled here.
        freezing: Which of its blocks are frozen, and as what.
        ranking: By which they were chosen.

    Raises:
        ValueError: The data is not given, or the rounds can't be run.
    """
    # TensorFlow Federated takes seconds to import, and other exports have no need of it.
    from pipelines import federate

    if config.data is None:
        raise ValueError("--data must be given")
    freezing.settle(model)
    with tempfile.TemporaryDirectory() as scratch:
        origin = _settled_run(Path(scratch) / "origin", source, model)
        ranked = replace(ranking, model_hash=weights_hash(Layout(model)))
        ranked.write(Path(scratch) / "ranking.json")
        rounds = FederateConfig(
            run=origin.folder,
            data=config.data,
            out=Path(scratch) / "recovered",
            ranking=Path(scratch) / "ranking.json",
            plan=PlanConfig(blocks=len(freezing.blocks), rate=0.0, base_rate=0.0, chosen="freeze"),
            rounds=config.recover.steps,
            clients_per_round=config.recover.clients,
            client_learning_rate=config.recover.client_learning_rate,
            evaluate_every=config.recover.steps,
            seed=source.config.seed,
        )
        federate.run(rounds)
        recovered = Run(rounds.out).trained_model()
        for variable, value in zip(model.variables, recovered.variables, strict=True):
            variable.assign(value)


def _settled_run(folder: Path, source: Run, model: AcousticModel) -> Run:
    """Writes a run whose only checkpoint is a model as it stands."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.model", "features.json"):
        shutil.copyfile(source.folder / name, folder / name)
    write_text(folder / "config.yaml", to_yaml({"train": to_mapping(source.config)}))
    run = Run(folder)
    run.checkpoints.save(tf.train.Checkpoint(model=model), Progress())
    return run
