"""`tfasr train`: prepared data to a run."""

import tensorflow as tf

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import write_json
from tfasr.configs.training import TrainConfig
from tfasr.data.banks import Banks
from tfasr.data.batches import make_buckets
from tfasr.data.pipelines import TrainingPipeline, evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.transcription import Validation
from tfasr.training.loop import Trainer
from tfasr.training.run import Run


def run(config: TrainConfig) -> None:
    """Trains a run to its end, from wherever it stands."""
    # Sums of several threads must come out in one order for a resume to be exact.
    tf.config.experimental.enable_op_determinism()
    data = PreparedData(config.data)
    folder = Run.create(config, data)
    done = max(folder.checkpoints.steps(), default=0)
    if done >= config.steps:
        print(f"{config.run}: already trained to step {done}; a higher --steps prolongs it")
        _write_finished(folder)
        return
    if done:
        print(f"{config.run}: goes on from step {done}")
    pipeline = training_pipeline(config, folder, data)
    trainer = Trainer(folder, pipeline, config, _validation(config, folder, data))
    with data.reading():
        progress = trainer.train(ProgressLine("train"))
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


def training_pipeline(config: TrainConfig, folder: Run, data: PreparedData) -> TrainingPipeline:
    """Makes a run's batches of prepared data, and says of how much."""
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
