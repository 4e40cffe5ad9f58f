from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig, TransformerConfig
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


def config(accumulate, tmp_path, parallel=1):
    # Adam with so large an epsilon moves as far as the gradient says; with a small one, rounding
    # errors of gradients that are zero would move their weights as far as any.
    optimizer = OptimizerConfig(
        peak=0.01,
        warmup=1,
        clip_norm=1e9,
        epsilon=1.0,
        accumulate=accumulate,
        parallel=parallel,
    )
    return TrainConfig(data=tmp_path, run=tmp_path, model=MODEL, optimizer=optimizer)


def steps(accumulate, tmp_path, parallel=1, model_config=MODEL):
    models = [build_model(model_config) for _ in range(2)]
    for model in models:
        initialize(Layout(model), 0)
    settings = config(accumulate, tmp_path, parallel)
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


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """Steps that part a batch in three."""
    return steps(1, tmp_path_factory.mktemp("parted"), parallel=3)


@pytest.fixture(scope="module")
def unparted(tmp_path_factory):
    return steps(1, tmp_path_factory.mktemp("unparted"))


# Of four utterances the last part has none, and of one the last two.
@pytest.mark.parametrize("utterances", [4, 1, 3])
def test_parts_side_by_side_make_the_step_of_the_whole(batches, parted, unparted, utterances):
    some = {name: value[:utterances] for name, value in joined(batches).items()}
    got, expected = (each.take([some], SEEDS[:1]) for each in (parted, unparted))
    assert got.loss == pytest.approx(expected.loss, rel=1e-5)
    assert got.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    for mine, other in zip(values(parted), values(unparted), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_an_utterance_that_fills_up_a_part_is_counted_once(batches, tmp_path):
    # Four frames hold one token, not two; of four utterances in three parts the last comes thrice.
    short = {**joined(batches), "num_frames": tf.constant([16, 12, 4, 4])}
    short["tokens"] = tf.constant([[1, 2]] * 4)
    short["num_tokens"] = tf.fill([4], 2)
    assert steps(1, tmp_path, parallel=3).take([short], SEEDS[:1]).infeasible == 2


def test_parts_draw_their_own_dropout(batches, tmp_path):
    dropping = replace(MODEL, transformer=replace(TRANSFORMER, dropout=0.5))
    once = {name: value[:1] for name, value in batches[0].items()}
    twice = {name: tf.concat([value] * 2, 0) for name, value in once.items()}
    alone = steps(1, tmp_path, model_config=dropping).take([once], SEEDS[:1])
    one, again = (steps(1, tmp_path, 2, dropping) for _ in range(2))
    outcomes = [each.take([twice], SEEDS[:1]) for each in (one, again)]
    assert outcomes[0] == outcomes[1]
    for mine, other in zip(values(one), values(again), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert abs(outcomes[0].loss - alone.loss) > 1e-3


def test_norms_of_batches_are_not_parted(tmp_path):
    encoder = EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_norm="batch")
    model = ModelConfig(encoder=encoder, num_mels=6, vocabulary=3)
    with pytest.raises(ValueError, match=r"norms of batches; got optimizer\.parallel=2"):
        steps(1, tmp_path, 2, model)


def test_fixed_blocks_are_no_norms_of_batches(batches, tmp_path):
    settings, model = config(1, tmp_path, 2), build_model(MODEL)
    initialize(Layout(model), 0)
    before = [variable.numpy() for variable in model.blocks[0].variables]
    model.blocks[0].trainable = False
    optimizer = make_optimizer(settings.optimizer)
    optimizer.build(model.trainable_variables)
    Steps(model, model, optimizer, settings).take(batches[:1], SEEDS[:1])
    for variable, value in zip(model.blocks[0].variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_batch_of_no_part_is_refused():
    with pytest.raises(ValueError, match="got parallel=0"):
        replace(OptimizerConfig(), parallel=0)
