import time
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import ModelConfig, StreamingConfig, TransformerConfig
from tfasr.configs.objective import JointObjective
from tfasr.data.pipelines import evaluation_batches
from tfasr.losses.objective import model_losses
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.signals import SIGNALS, Given

OBJECTIVE = JointObjective()


SEED = 5


@pytest.fixture(scope="module")
def make_model(tiny_run, noise):
    """Makes a small Transformer: its gradients are traced in half of a Conformer's time."""
    transformer = TransformerConfig(num_blocks=2, dim=16, num_heads=2, ff_units=12)
    config = ModelConfig(
        family="transformer",
        transformer=transformer,
        num_mels=tiny_run.model_config.num_mels,
        vocabulary=tiny_run.model_config.vocabulary,
    )

    def make(change=0.3):
        model = build_model(config)
        initialize(Layout(model), SEED)
        for number, variable in enumerate(model.trainable_variables):
            variable.assign_add(change * noise(*variable.shape, seed=number))
        return model

    return make


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def layout(model):
    return Layout(model)


@pytest.fixture(scope="module")
def batches(tiny_data, tiny_run):
    """Of several sizes, so that a mean over batches is none over utterances."""
    durations = tiny_data.durations("valid")
    data = list(
        evaluation_batches(
            tiny_data.source("valid"), durations, extractor=tiny_run.extractor, batch_seconds=1.6
        )
    )
    assert len({len(batch["num_frames"]) for batch in data}) > 1
    return data


@pytest.fixture(scope="module")
def measured(model, layout, batches):
    """Each signal, what its call took in seconds, and the hash of the weights after it."""
    found = {}
    for name, measure in SIGNALS.items():
        started = time.monotonic()
        signal = measure(Given(model, layout, SEED, batches, OBJECTIVE))
        found[name] = (signal, time.monotonic() - started, weights_hash(layout))
    return found


@pytest.fixture(scope="module")
def values(measured):
    return {name: signal.values for name, (signal, _, _) in measured.items()}


def test_there_are_six_signals_with_a_float64_for_each_block(measured):
    names = ("churn", "relative_churn", "gradient", "fisher", "cosine", "loss")
    assert tuple(SIGNALS) == names
    for name in names:
        signal = measured[name][0]
        assert (signal.name, signal.values.shape, signal.values.dtype) == (name, (2,), np.float64)


def test_the_seconds_are_those_of_the_call(measured):
    for signal, around, _ in measured.values():
        assert 0.9 * around - 0.01 < signal.seconds <= around


def test_the_weights_are_as_before(measured, make_model):
    before = weights_hash(Layout(make_model()))
    assert {after for _, _, after in measured.values()} == {before}


@pytest.fixture(scope="module")
def kernels(model, make_model):
    """Each block's kernels, trained and first, one after another."""
    firsts = {variable.name: variable for variable in make_model(change=0).variables}
    return [
        [
            np.concatenate([v.numpy().ravel() for v in variables]).astype(np.float64)
            for variables in (ours, [firsts[v.name] for v in ours])
        ]
        for ours in (
            [v for v in model.variables if v.name.startswith(block) and "kernel" in v.name]
            for block in ("block_0/", "block_1/")
        )
    ]


def test_churn_is_over_all_kernels_of_a_block(values, kernels):
    expected = [np.linalg.norm(now - first) for now, first in kernels]
    np.testing.assert_allclose(values["churn"], expected, rtol=1e-6)


def test_relative_churn_is_relative_to_the_first_kernels_of_a_block(values, kernels):
    expected = [np.linalg.norm(now - first) / np.linalg.norm(first) for now, first in kernels]
    np.testing.assert_allclose(values["relative_churn"], expected, rtol=1e-6)


@pytest.fixture(scope="module")
def gradients(model, batches):
    """Of each batch its size, and the gradient of the sum of its losses by block."""
    variables = [
        [v for v in model.trainable_variables if v.name.startswith(f"block_{block}/")]
        for block in (0, 1)
    ]
    found = []
    for batch in batches:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(model_losses(model, batch, OBJECTIVE).losses)
        parts = tape.gradient(total, variables)
        flat = [np.concatenate([part.numpy().ravel() for part in block]) for block in parts]
        found.append((len(batch["num_frames"]), [block.astype(np.float64) for block in flat]))
    return found


def test_the_gradient_is_that_of_the_mean_over_utterances(values, gradients):
    utterances = sum(size for size, _ in gradients)
    expected = [
        np.linalg.norm(sum(blocks[block] for _, blocks in gradients)) / utterances
        for block in (0, 1)
    ]
    # Gradients are float32, and graphs sum them in another order.
    np.testing.assert_allclose(values["gradient"], expected, rtol=1e-3)


def test_fisher_is_the_mean_of_the_squared_norms_of_the_batches_gradients(values, gradients):
    expected = [
        np.mean([np.sum((blocks[block] / size) ** 2) for size, blocks in gradients])
        for block in (0, 1)
    ]
    # Gradients are float32, and graphs sum them in another order.
    np.testing.assert_allclose(values["fisher"], expected, rtol=1e-3)


def cosine_by_hand(model, batches, strides):
    """1 - mean cosine by block; a frame that is given counts with the one that it becomes."""
    cosines = [[] for _ in strides]
    for batch in batches:
        x, mask = model.subsample(batch["features"], batch["num_frames"])
        for index, block in enumerate(model.blocks):
            y = block(x, mask=mask, **model.visible(index, x.shape[1]))
            after = block.compute_mask(x, mask)
            for row in range(len(y)):
                given = x[row].numpy()[mask[row].numpy()]
                for frame in range(int(after[row].numpy().sum())):
                    first = frame * strides[index]
                    a, b = given[first : first + strides[index]].mean(0), y[row, frame].numpy()
                    cosines[index].append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            x, mask = y, after
    return [1 - np.mean(block) for block in cosines]


def test_cosine_is_over_real_frames(values, model, batches):
    expected = cosine_by_hand(model, batches, (1, 1))
    np.testing.assert_allclose(values["cosine"], expected, atol=1e-5)


def test_cosine_compares_a_stacked_frame_with_the_mean_of_those_that_it_is_made_of(
    tiny_run, batches
):
    encoder = replace(
        tiny_run.model_config.encoder,
        conv_norm="layer",
        stack_at=1,
        stack_factor=3,
        streaming=StreamingConfig(chunks=(6,), left_context=6),
    )
    model = build_model(replace(tiny_run.model_config, encoder=encoder))
    layout = Layout(model)
    initialize(layout, SEED)
    signal = SIGNALS["cosine"](Given(model, layout, SEED, batches[:2], OBJECTIVE))
    np.testing.assert_allclose(signal.values, cosine_by_hand(model, batches[:2], (1, 3)), atol=1e-5)


def test_loss_is_the_rise_of_that_of_the_first_batch_with_a_block_drawn_anew(
    values, make_model, batches
):
    other = make_model()
    trained = other.get_weights()
    losses = []
    for block in (None, 0, 1):
        other.set_weights(trained)
        if block is not None:
            initialize(Layout(other).of_block(block), SEED, draw=1)
        losses.append(np.mean(model_losses(other, batches[0], OBJECTIVE).losses))
    expected = np.array(losses[1:], np.float64) - losses[0]
    assert abs(expected).min() > 1e-2
    # A difference of two losses in float32.
    np.testing.assert_allclose(values["loss"], expected, atol=1e-4 * losses[0])


def test_the_weights_are_as_before_even_when_a_reset_fails(model, batches):
    layout = Layout(model)
    before = weights_hash(layout)
    # A bias is no kernel: its weights can't be drawn, when others of the block have theirs.
    place = layout.entries.index(layout.of_block(1)[-1])
    layout.entries[place] = replace(layout.entries[place], role="kernel")
    with pytest.raises(ValueError, match="not enough values to unpack"):
        SIGNALS["loss"](Given(model, layout, SEED, batches, OBJECTIVE))
    assert weights_hash(Layout(model)) == before


def test_a_signal_without_a_batch_is_refused(model, layout):
    for name in ("gradient", "fisher", "cosine", "loss"):
        with pytest.raises(ValueError, match="must have a batch to be measured on; got none"):
            SIGNALS[name](Given(model, layout, SEED, [], OBJECTIVE))
