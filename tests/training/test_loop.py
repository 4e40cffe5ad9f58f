from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from tfasr.artifacts.files import read_json_lines
from tfasr.configs.data import BatchConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.model import ModelConfig, TransformerConfig
from tfasr.configs.training import OptimizerConfig
from tfasr.data.batches import make_buckets
from tfasr.data.pipelines import TrainingPipeline
from tfasr.training.loop import Trainer
from tfasr.training.run import Run

# Figures that no two trainings share.
TIMES = ("audio_seconds_per_second", "input_wait_share")


class Interrupted(Exception):
    """The process is gone."""


@pytest.fixture(scope="module", autouse=True)
def one_order_of_sums():
    """Has several threads add up in one order, as `tfasr train` does."""
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    """One block on plain features; eight steps are two epochs, of batches of one shape."""
    # Each shape takes seconds to compile.
    batching = BatchConfig(batch_seconds=2.3, num_buckets=1, max_seconds=5.0)
    # A Transformer is traced in half of a Conformer's time, which tests/flow/test_killed.py trains.
    transformer = TransformerConfig(num_blocks=1, dim=16, num_heads=2, ff_units=24)
    folder = tmp_path_factory.mktemp("loop") / "run"
    config = tiny_config(folder, steps=8, valid_every=4, batching=batching)
    return replace(
        config,
        model=ModelConfig(family="transformer", transformer=transformer),
        augmentation=AugmentConfig(speeds=(1.0,), gain_db=(0.0, 0.0)),
        masking=SpecAugmentConfig(frequency_masks=1, frequency_width=1, time_masks=0),
        checkpoint_every=3,
    )


def silent(done, total, **figures):
    """Reports nothing."""


def interrupt_at(step):
    def report(done, total, **figures):
        if done == step:
            raise Interrupted

    return report


def rate_of(model):
    """A figure that is never the same twice: the weights change with every step."""
    return {"wer": float(tf.reduce_sum(tf.abs(model.head.kernel)))}


def stop(model):
    raise Interrupted


def trainer_of(config, data, validate=rate_of):
    run = Run.create(config, data)
    pipeline = TrainingPipeline(
        source=data.source("train"),
        domains=config.domains,
        buckets=make_buckets(data.durations("train"), config.batching),
        batching=config.batching,
        extractor=run.extractor,
        augmentation=config.augmentation,
        masking=config.masking,
        seed=config.seed,
    )
    return Trainer(run, pipeline, config, validate)


@pytest.fixture(scope="module")
def whole(config, tiny_data):
    trainer = trainer_of(config, tiny_data)
    return trainer, trainer.train(silent)


@pytest.fixture(scope="module")
def resumed(config, tiny_data):
    """Ended within the second epoch, then between the last line of the log and its checkpoint."""
    config = replace(config, run=config.run.with_name("resumed"))
    with pytest.raises(Interrupted):
        trainer_of(config, tiny_data).train(interrupt_at(5))
    with pytest.raises(Interrupted):
        trainer_of(config, tiny_data, validate=stop).train(silent)
    trainer = trainer_of(config, tiny_data)
    return trainer, trainer.train(silent)


def values_of(trainer):
    parts = (trainer.model, trainer.average, trainer.optimizer)
    return [variable.numpy() for part in parts for variable in part.variables]


def assert_equal_values(ours, theirs):
    for mine, yours in zip(values_of(ours), values_of(theirs), strict=True):
        np.testing.assert_array_equal(mine, yours)


def metrics(trainer):
    """Rows of the log without how fast they came."""
    rows = read_json_lines(trainer.run.folder / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k not in TIMES} for r in rows]


def test_the_loss_falls(config, tiny_data):
    losses = []
    config = replace(config, steps=40, valid_every=40, run=config.run.with_name("falls"))
    trainer_of(config, tiny_data).train(lambda done, total, loss, **rest: losses.append(loss))
    # The window of the first report holds one loss, that of the last twenty.
    assert losses[-1] < 0.7 * losses[0]


def test_an_interrupted_training_goes_on_bit_by_bit(whole, resumed):
    assert_equal_values(resumed[0], whole[0])


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(whole, resumed):
    ours, theirs = resumed[1], whole[1]
    assert replace(ours, seconds=0.0) == replace(theirs, seconds=0.0)
    assert (ours.step, ours.validation) == (8, rate_of(resumed[0].average))


def test_each_figure_is_logged_once(resumed):
    assert [(r["step"], "valid_wer" in r) for r in metrics(resumed[0]) if r["step"] == 8] == [
        (8, False),
        (8, True),
    ]


def test_an_interrupted_training_leaves_the_log_of_an_uninterrupted_one(whole, resumed):
    assert metrics(resumed[0]) == metrics(whole[0])


def test_validation_is_logged_with_its_step(whole):
    rows = [row for row in metrics(whole[0]) if "valid_wer" in row]
    assert [row["step"] for row in rows] == [4, 8]
    assert rows[1]["valid_wer"] == rate_of(whole[0].average)["wer"]


def test_a_prolonged_training_is_the_longer_one(config, tiny_data, whole):
    short = replace(config, run=config.run.with_name("short"), steps=5)
    trainer_of(short, tiny_data).train(silent)
    prolonged = trainer_of(replace(short, steps=8), tiny_data)
    prolonged.train(silent)
    assert_equal_values(prolonged, whole[0])


def test_checkpoints_come_after_validations_and_where_asked_for(whole):
    # 3, 4, 6 and 8 are saved, of which the two newest stay.
    assert {6, 8} <= set(whole[0].run.checkpoints.steps()) <= {4, 6, 8}


def test_a_checkpoint_without_a_validation_has_no_error_rate(whole):
    assert whole[0].run.checkpoints.progress(6).validation == {}


@pytest.fixture(scope="module")
def unaveraged(config, tiny_data):
    """Four steps without a moving average."""
    optimizer = replace(config.optimizer, average=0.0)
    name = config.run.with_name("unaveraged")
    config = replace(config, optimizer=optimizer, steps=4, run=name)
    trainer = trainer_of(config, tiny_data)
    trainer.train(silent)
    return trainer


def test_without_a_moving_average_there_is_no_second_model(unaveraged):
    assert unaveraged.average is unaveraged.model


def test_without_a_moving_average_what_is_trained_is_validated_and_saved(unaveraged):
    assert unaveraged.run.checkpoints.progress(4).validation == rate_of(unaveraged.model)
    saved = unaveraged.run.trained_model(4)
    for ours, theirs in zip(unaveraged.model.variables, saved.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_moving_average_an_interrupted_training_goes_on_bit_by_bit(unaveraged, tiny_data):
    config = replace(unaveraged.config, run=unaveraged.run.folder.with_name("unaveraged_resumed"))
    # The third step has a checkpoint, the fourth has not.
    with pytest.raises(Interrupted):
        trainer_of(config, tiny_data, validate=stop).train(silent)
    resumed = trainer_of(config, tiny_data)
    resumed.train(silent)
    assert_equal_values(resumed, unaveraged)


def test_a_model_in_bfloat16_is_validated_by_a_copy_in_float32(config, tiny_data):
    optimizer = replace(config.optimizer, average=0.0)
    trainer = trainer_of(
        replace(
            config,
            optimizer=optimizer,
            precision="mixed_bfloat16",
            steps=2,
            run=config.run.with_name("bfloat16"),
        ),
        tiny_data,
    )
    trainer.train(silent)
    assert (trainer.model.compute_dtype, trainer.average.compute_dtype) == ("bfloat16", "float32")
    # The copy is moved by the difference, which is rounded.
    for ours, theirs in zip(trainer.average.variables, trainer.model.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_loss_that_is_no_number_is_told_with_its_step(config, tiny_data):
    optimizer = OptimizerConfig(peak=1e30, warmup=1)
    config = replace(config, optimizer=optimizer, run=config.run.with_name("absurd"))
    trainer = trainer_of(config, tiny_data)
    message = r"must stay finite; got nan and a norm of nan at step 2\. Lower .*\.peak=1e\+30"
    with pytest.raises(ValueError, match=message):
        trainer.train(silent)
    assert trainer.run.checkpoints.steps() == []


def test_data_without_an_utterance_is_refused(config, tiny_data):
    trainer = trainer_of(replace(config, run=config.run.with_name("nothing")), tiny_data)
    trainer.pipeline = replace(trainer.pipeline, domains=("car",))
    with pytest.raises(ValueError, match="data: holds no utterance to train on"):
        trainer.train(silent)


@pytest.fixture(scope="module")
def two_blocks(config, tiny_data):
    """Two steps of two small blocks, of which one can move more than the other."""
    transformer = TransformerConfig(num_blocks=2, dim=8, num_heads=2, ff_units=12)
    model = ModelConfig(family="transformer", transformer=transformer)
    config = replace(
        config, model=model, steps=2, valid_every=2, run=config.run.with_name("two_blocks")
    )
    trainer = trainer_of(config, tiny_data)
    trainer.train(silent)
    return trainer


def test_the_churn_of_the_validated_model_is_in_the_events(two_blocks, scalars_of):
    moved = {}
    pairs = zip(two_blocks.average.variables, two_blocks.run.initial_model().variables, strict=True)
    for now, first in pairs:
        if now.name.startswith("block_") and now.name.endswith("kernel:0"):
            block, module, _ = now.name.split("/", 2)
            square = np.sum(np.square(now.numpy() - first.numpy(), dtype=np.float64))
            moved[module, block] = moved.get((module, block), 0) + square
    largest = {m: max(moved[m, "block_0"], moved[m, "block_1"]) for m, _ in moved}
    expected = {
        (2, f"churn/{module}/{block}"): (square / largest[module]) ** 0.5
        for (module, block), square in moved.items()
    }
    scalars = scalars_of(two_blocks.run.folder / "tensorboard")
    churn = {key: value for key, value in scalars.items() if key[1].startswith("churn")}
    assert len(expected) == 4
    assert churn == pytest.approx(expected, rel=1e-5)
    assert min(churn.values()) < 0.99


def test_churn_is_not_in_the_log(two_blocks):
    assert metrics(two_blocks)[-1] == {"step": 2, "valid_wer": rate_of(two_blocks.average)["wer"]}
