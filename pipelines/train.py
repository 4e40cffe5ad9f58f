"""`tfasr train`: prepared data to a run."""

import os
from dataclasses import replace

import tensorflow as tf

from pipelines.progress import ProgressLine
from pipelines.threads import take_one_thread_an_operation
from tfasr.artifacts.files import write_json
from tfasr.configs.distribution import distribution_of_environment
from tfasr.configs.training import TrainConfig
from tfasr.data.banks import Banks
from tfasr.data.batches import make_buckets
from tfasr.data.pipelines import TrainingPipeline, evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.transcription import Validation
from tfasr.training.checkpoints import Progress
from tfasr.training.hosts import Hosts
from tfasr.training.loop import Report, Trainer
from tfasr.training.run import Run


def run(config: TrainConfig) -> None:
    """Trains a run to its end, from wherever it stands.

    Raises:
        ValueError: A setting or the data can't be trained with, or another host is gone.
    """
    # Sums of several threads must come out in one order for a resume to be exact.
    tf.config.experimental.enable_op_determinism()
    if config.optimizer.parallel > 1:
        take_one_thread_an_operation()
    if not config.distribution.hosts:
        environment = distribution_of_environment(os.environ.get("TF_CONFIG", ""))
        config = replace(config, distribution=environment)
    hosts = Hosts(config.distribution)
    try:
        _run(config, hosts)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise ValueError(
            f"another host is gone; start all of {', '.join(config.distribution.hosts)} again to "
            f"go on from the last checkpoint. {error.message}"
        ) from None


def _run(config: TrainConfig, hosts: Hosts) -> None:
    data = PreparedData(config.data)
    folder = _folder(config, data, hosts)
    done = max(folder.checkpoints.steps(), default=0)
    # The chief must not write a checkpoint before all have looked for one.
    hosts.wait()
    if done >= config.steps:
        if hosts.is_chief:
            print(f"{config.run}: already trained to step {done}; a higher --steps prolongs it")
            _write_finished(folder)
        return
    if done:
        print(f"{config.run}: goes on from step {done}")
    pipeline = training_pipeline(config, folder, data, hosts.count)
    trainer = Trainer(folder, pipeline, config, _validation(config, folder, data), hosts)
    report: Report = _silent
    if hosts.is_chief:
        report = ProgressLine("train")
    with data.reading():
        progress = trainer.train(report)
    if hosts.is_chief:
        _finish(config, folder, progress)
    hosts.wait()


def _folder(config: TrainConfig, data: PreparedData, hosts: Hosts) -> Run:
    """Has the chief make the run's folder, or checks it on all where it is there."""
    if hosts.is_chief:
        Run.create(config, data)
    hosts.wait()
    if not Run(config.run).exists:
        raise ValueError(f"{config.run}: must lie where all hosts see it; this one sees no run")
    return Run.create(config, data)


def _silent(done: int, total: int, **figures: float) -> None:
    """Leaves it to the chief to tell."""


def _finish(config: TrainConfig, folder: Run, progress: Progress) -> None:
    best, rate = _write_finished(folder)
    _tell_average(folder)
    print(
        f"{config.run}: trained {progress.step} steps in {progress.seconds / 60:.1f} min; "
        f"validation word error rate {100 * rate:.2f} % at step {best}"
    )


def _write_finished(folder: Run) -> tuple[int, float]:
    """Writes which checkpoint is best; also where a kill came just before it."""
    best = folder.checkpoints.best_step()
    rate = folder.checkpoints.progress(best).validation["wer"]
    outcome = {"step": max(folder.checkpoints.steps()), "best": best, "wer": rate}
    write_json(folder.folder / "finished.json", outcome)
    return best, rate


def _tell_average(folder: Run) -> None:
    steps = folder.average_checkpoints()
    if steps:
        print(
            f"{folder.folder}: averaged {len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}; "
            "their average is the run's model"
        )


def training_pipeline(
    config: TrainConfig, folder: Run, data: PreparedData, hosts: int = 1
) -> TrainingPipeline:
    """Makes a run's batches of prepared data for one of several hosts, and says of how much."""
    domains = data.domains_to_train_on(config.domains)
    durations = data.durations("train", domains)
    kept = [d for d in durations if config.batching.min_seconds <= d <= config.batching.max_seconds]
    hours = sum(kept) / 3600
    print(f"train: {len(kept)} utterances, {hours:.2f} h, domains {', '.join(domains)}")
    if len(kept) < len(durations):
        print(
            f"train: {len(durations) - len(kept)} utterances left out, not between "
            f"{config.batching.min_seconds} and {config.batching.max_seconds} s"
        )
    return TrainingPipeline(
        source=data.source("train", config.batching.reading),
        domains=domains,
        buckets=make_buckets(kept, config.batching, config.augmentation.speeds),
        batching=config.batching,
        extractor=folder.extractor,
        augmentation=config.augmentation,
        masking=config.masking,
        banks=Banks.load(config.augmentation, data.reader),
        every=hosts,
        seed=config.seed,
    )


def _validation(config: TrainConfig, folder: Run, data: PreparedData) -> Validation:
    domains = config.valid_domains or data.domains_to_train_on(config.domains)
    batches = evaluation_batches(
        data.source("valid"),
        data.durations("valid", domains),
        domains=domains,
        extractor=folder.extractor,
    )
    return Validation(batches, folder.tokenizer.pieces, config.objective)
