from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import ModelConfig, TransformerConfig
from tfasr.configs.training import OptimizerConfig, TrainConfig
from tfasr.losses.objective import model_losses
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.training.optimizer import make_optimizer
from tfasr.training.steps import Steps

# A Transformer is traced in half of a Conformer's time.
TRANSFORMER = TransformerConfig(
    num_blocks=1, dim=8, num_heads=2, ff_units=12, dropout=0.0, subsampling="same"
)
MODEL = ModelConfig(family="transformer", transformer=TRANSFORMER, num_mels=6, vocabulary=3)
SEEDS = [(1, 2), (3, 4)]


def config(accumulate, tmp_path):
    # Adam with so large an epsilon moves as far as the gradient says; with a small one, rounding
    # errors of gradients that are zero would move their weights as far as any.
    optimizer = OptimizerConfig(
        peak=0.01, warmup=1, clip_norm=1e9, epsilon=1.0, accumulate=accumulate
    )
    return TrainConfig(data=tmp_path, run=tmp_path, model=MODEL, optimizer=optimizer)


def steps(accumulate, tmp_path):
    models = [build_model(MODEL) for _ in range(2)]
    for model in models:
        initialize(Layout(model), 0)
    settings = config(accumulate, tmp_path)
    optimizer = make_optimizer(settings.optimizer)
    optimizer.build(models[0].trainable_variables)
    return Steps(*models, optimizer, settings)


@pytest.fixture(scope="module")
def batches(noise):
    return [
        {
            "features": tf.constant(noise(2, 16, 6, seed=seed)),
            "num_frames": tf.constant([16, 12]),
            "tokens": tf.constant([[1, 2], [0, 0]]),
            "num_tokens": tf.constant([2, 1]),
        }
        for seed in range(2)
    ]


def joined(batches):
    return {name: tf.concat([batch[name] for batch in batches], 0) for name in batches[0]}


def values(steps):
    return [variable.numpy() for variable in steps.model.variables]


@pytest.fixture(scope="module")
def pairs(batches, tmp_path_factory):
    """Two steps, each in one batch and in two halves: outcomes and weights of both."""
    folder = tmp_path_factory.mktemp("steps")
    whole, halves = steps(1, folder), steps(2, folder)
    return [
        (
            (whole.take([joined(batches)], SEEDS[:1]), values(whole)),
            (halves.take(batches, SEEDS), values(halves)),
        )
        for _ in range(2)
    ]


def test_two_halves_make_the_step_of_the_whole(pairs):
    (one, expected), (two, found) = pairs[0]
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_nothing_is_left_for_the_next_step(pairs):
    (one, _), (two, _) = pairs[1]
    assert two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-3)


@pytest.fixture(scope="module")
def first(batches, tmp_path_factory):
    """A first step, its outcome, what was expected of it, and the average's kernel before it."""
    taken = steps(1, tmp_path_factory.mktemp("first"))
    before = taken.average.head.kernel.numpy()
    with tf.GradientTape() as tape:
        losses = model_losses(taken.model, batches[0], taken.config.objective).losses
        loss = tf.reduce_mean(losses)
    norm = tf.linalg.global_norm(tape.gradient(loss, taken.variables))
    return taken, taken.take(batches[:1], SEEDS[:1]), (float(loss), float(norm)), before


def test_the_outcome_is_that_of_the_weights_before_the_step(first):
    _, outcome, (loss, norm), _ = first
    assert outcome.loss == pytest.approx(loss, rel=1e-5)
    assert outcome.gradient_norm == pytest.approx(norm, rel=1e-4)
    assert outcome.infeasible == 0


def test_short_utterances_are_counted_over_all_batches(batches, tmp_path):
    # Four frames hold one token, not two.
    short = [{**batch, "num_frames": tf.constant([4, 4])} for batch in batches]
    assert steps(2, tmp_path).take(short, SEEDS).infeasible == 2


def test_the_average_moves_towards_the_model(first):
    taken, _, _, before = first
    # After one step 2 / 11 are kept.
    expected = before * 2 / 11 + taken.model.head.kernel.numpy() * 9 / 11
    np.testing.assert_allclose(taken.average.head.kernel, expected, atol=1e-6)


def test_a_step_of_no_batch_is_refused():
    with pytest.raises(ValueError, match="got accumulate=0"):
        replace(OptimizerConfig(), accumulate=0)
