import gc

import numpy as np
import pytest
import tensorflow as tf

from tfasr.artifacts.files import read_json
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.training import OptimizerConfig
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.training.checkpoints import Checkpoints, Progress
from tfasr.training.optimizer import make_optimizer


def config(**encoder):
    settings = {"num_blocks": 1, "dim": 8, "num_heads": 2, "conv_kernel": 3, "norm_groups": 2}
    encoder = EncoderConfig(**{**settings, **encoder})
    return ModelConfig(encoder=encoder, num_mels=6, vocabulary=5)


class Training:
    """A small model with its optimizer."""

    def __init__(self, seed=0, **encoder):
        self.model = build_model(config(**encoder))
        initialize(Layout(self.model), seed)
        self.optimizer = make_optimizer(OptimizerConfig(peak=0.1, warmup=3))
        self.optimizer.build(self.model.trainable_variables)
        self.state = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)

    def step(self, features):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(features, tf.constant([8]))
            loss = tf.reduce_mean(tf.square(logits - 1))
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def values(self):
        variables = [*self.model.variables, *self.optimizer.variables]
        return {str(number): v.numpy() for number, v in enumerate(variables)}


def counter(step):
    return tf.train.Checkpoint(value=tf.Variable(step))


def save_steps(checkpoints, rates):
    for step, rate in rates.items():
        validation = {} if rate is None else {"wer": rate}
        checkpoints.save(counter(step), Progress(step=step, validation=validation))


def test_a_resumed_run_goes_on_bit_by_bit(tmp_path, noise):
    features = [noise(1, 8, 6, seed=seed) for seed in range(3)]
    training, checkpoints = Training(), Checkpoints(tmp_path)
    training.step(features[0])
    training.step(features[1])
    checkpoints.save(training.state, Progress(step=2))
    training.step(features[2])

    resumed = Training(seed=1)
    checkpoints.restore(resumed.state, 2)
    resumed.step(features[2])
    values, expected = resumed.values(), training.values()
    for name in expected:
        np.testing.assert_array_equal(values[name], expected[name])


def test_the_optimizer_knows_its_step_again(tmp_path, noise):
    training, checkpoints = Training(), Checkpoints(tmp_path)
    for _ in range(2):
        training.step(noise(1, 8, 6))
    checkpoints.save(training.state, Progress(step=2))
    resumed = Training(seed=1)
    checkpoints.restore(resumed.state, 2)
    assert resumed.optimizer.iterations.numpy() == 2


def test_a_model_is_restored_without_its_optimizer(tmp_path):
    training, checkpoints = Training(), Checkpoints(tmp_path)
    checkpoints.save(training.state, Progress(step=2))
    other = build_model(config())
    checkpoints.restore(tf.train.Checkpoint(model=other), 2)
    for ours, theirs in zip(other.variables, training.model.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_not_asked_for_is_left_out_silently(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Training().state, Progress(step=2))
    checkpoints.restore(tf.train.Checkpoint(model=build_model(config())), 2)
    gc.collect()
    assert caplog.messages[:1] == []


def test_progress_is_read_as_it_was_saved(tmp_path):
    progress = Progress(step=12, epoch=3, batch=4, seconds=1.5, validation={"wer": 0.25})
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(counter(12), progress)
    assert checkpoints.progress(12) == progress
    assert checkpoints.restore(counter(0), 12) == progress


def test_a_checkpoint_is_a_folder_named_by_its_step(tmp_path):
    Checkpoints(tmp_path / "checkpoints").save(counter(12), Progress(step=12))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000012"]


def test_a_checkpoint_may_be_saved_again(tmp_path):
    checkpoints, value = Checkpoints(tmp_path), counter(0)
    checkpoints.save(counter(1), Progress(step=5))
    checkpoints.save(counter(2), Progress(step=5, seconds=2.0))
    checkpoints.restore(value, 5)
    assert value.value.numpy() == 2
    assert checkpoints.progress(5).seconds == 2.0


class FullDisk:
    """A checkpoint that fails half way."""

    def write(self, path):
        (tf.io.gfile.GFile(f"{path}.index", "w")).close()
        raise OSError("no space left")


def test_a_failed_save_leaves_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save_steps(checkpoints, {1: 0.5})
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(FullDisk(), Progress(step=2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save_steps(checkpoints, dict.fromkeys([1, 2, 3, 4]))
    assert checkpoints.steps() == [3, 4]


def test_the_best_is_kept_beside_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save_steps(checkpoints, {1: 0.5, 2: 0.2, 3: 0.4, 4: 0.3, 5: 0.3})
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best_step() == 2


def test_those_of_every_so_many_steps_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_every=2)
    save_steps(checkpoints, {1: 0.1, 2: 0.5, 3: 0.4, 4: 0.5, 5: 0.6})
    assert checkpoints.steps() == [1, 2, 4, 5]


def save_losses(checkpoints, losses):
    for step, loss in losses.items():
        checkpoints.save(counter(step), Progress(step=step, validation={"valid_loss": loss}))


def test_those_with_the_lowest_losses_are_kept_beside_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=2)
    save_losses(checkpoints, {1: 0.5, 2: 0.2, 3: 0.4, 4: 0.3, 5: 0.9})
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.lowest_losses(2) == [2, 4]


def test_an_average_is_the_mean_of_its_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    trainings = [Training(seed) for seed in range(3)]
    for step, training in enumerate(trainings, start=1):
        checkpoints.save(training.state, Progress(step=step))
    checkpoints.write_average(Training(9).model, [1, 3])
    model = Training(8).model
    checkpoints.restore_average(tf.train.Checkpoint(model=model))
    for mean, first, third in zip(
        model.variables, trainings[0].model.variables, trainings[2].model.variables, strict=True
    ):
        np.testing.assert_allclose(mean, (first.numpy() + third.numpy()) / 2, atol=1e-7)
    assert read_json(checkpoints.average / "steps.json") == [1, 3]


def test_an_average_of_another_model_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Training().state, Progress(step=1))
    checkpoints.write_average(Training().model, [1])
    with pytest.raises(ValueError, match="average: does not fit this model"):
        checkpoints.restore_average(tf.train.Checkpoint(model=Training(dim=16).model))


def test_the_newest_of_equals_is_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    save_steps(checkpoints, {1: 0.2, 2: 0.2, 3: 0.4})
    assert checkpoints.best_step() == 2


def test_a_checkpoint_without_validation_is_the_best_only_among_its_like(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    save_steps(checkpoints, {1: None, 2: None})
    assert checkpoints.best_step() == 2
    save_steps(checkpoints, {3: 0.9})
    assert checkpoints.best_step() == 3


def test_a_second_set_of_checkpoints_in_the_folder_finds_them(tmp_path):
    save_steps(Checkpoints(tmp_path), {10: 0.5, 9: 0.1})
    assert Checkpoints(tmp_path).steps() == [9, 10]


def test_no_checkpoint_is_named(tmp_path):
    assert Checkpoints(tmp_path / "none").steps() == []
    with pytest.raises(ValueError, match="none: holds no checkpoint; run `tfasr train` first"):
        Checkpoints(tmp_path / "none").best_step()


def test_a_step_that_was_not_kept_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save_steps(checkpoints, {1: 0.5})
    with pytest.raises(ValueError, match="step-00000007: no such checkpoint"):
        checkpoints.restore(counter(0), 7)


@pytest.mark.parametrize(
    "encoder", [{"dim": 16}, {"num_blocks": 2}, {"conv_norm": "batch"}, {"conv_kernel": 5}]
)
def test_another_model_is_refused(tmp_path, encoder):
    Checkpoints(tmp_path).save(Training().state, Progress(step=2))
    other = tf.train.Checkpoint(model=build_model(config(**encoder)))
    with pytest.raises(ValueError, match=r"step-00000002: does not fit this model; \w+") as error:
        Checkpoints(tmp_path).restore(other, 2)
    assert "\n" not in str(error.value)


def test_a_smaller_model_is_refused(tmp_path):
    Checkpoints(tmp_path).save(Training(num_blocks=2).state, Progress(step=2))
    other = tf.train.Checkpoint(model=build_model(config(num_blocks=1)))
    with pytest.raises(ValueError, match="step-00000002: does not fit this model"):
        Checkpoints(tmp_path).restore(other, 2)


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)
