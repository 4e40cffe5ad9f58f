from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.federated.optimizers import server_optimizer
from tfasr.federated.plans import kept_units
from tfasr.federated.process import build_finalizer, build_process
from tfasr.federated.rounds import Server
from tfasr.federated.submodels import SubModels
from tfasr.federated.workers import worker_context
from tfasr.losses.ctc import ctc_loss
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

pytestmark = pytest.mark.federated


@pytest.fixture(scope="module", autouse=True)
def worker(tmp_path_factory):
    with worker_context(tmp_path_factory.mktemp("worker") / "worker.log") as process:
        yield process


def values(model):
    return [variable.numpy() for variable in model.variables]


def together(weights):
    return np.concatenate([weight.ravel() for weight in weights])


def averaged_by_hand(model, datasets, config):
    """Federated averaging as a loop over clients and steps; leaves `model` trained."""
    start, total, updates = values(model), 0, [0.0] * len(model.variables)
    for dataset in datasets:
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        utterances = 0
        for batch in dataset:
            with tf.GradientTape() as tape:
                logits = model(batch["features"], batch["num_frames"], seed=batch["seed"])
                frames = model.encoded_frames(batch["num_frames"])
                loss = ctc_loss(logits, frames, batch["tokens"], batch["num_tokens"])
                loss = tf.reduce_mean(loss)
            slopes = tape.gradient(loss, model.variables)
            norm = sum(np.sum(slope.numpy() ** 2) for slope in slopes) ** 0.5
            rate = config.client_learning_rate * min(1, config.client_clip_norm / norm)
            for variable, slope in zip(model.variables, slopes, strict=True):
                variable.assign_sub(rate * slope)
            utterances += len(batch["features"])
        total += utterances
        updates = [
            u + utterances * (w - s) for u, w, s in zip(updates, values(model), start, strict=True)
        ]
    return [s + u / total for s, u in zip(start, updates, strict=True)]


@pytest.fixture
def one_block(origin):
    """A model of one block, and how to make it: every block takes seconds to trace."""
    config = origin.model_config
    config = replace(config, encoder=replace(config.encoder, num_blocks=1))

    def make():
        model = build_model(config)
        initialize(Layout(model), 0)
        return model

    return config, make


def test_nothing_dropped_is_federated_averaging(one_block, full_config, population):
    model_config, make = one_block
    kept = kept_units(full_config.plan, model_config)
    process, model = build_process(model_config, kept, full_config), make()
    server = Server(process, model)
    # Clients of different sizes, so that a mean without weights would not pass.
    datasets = [population.pipeline.round(client, 0) for client in population.clients[::2]]
    server.next(0, datasets)
    expected = averaged_by_hand(make(), datasets, full_config)
    before = together(values(make()))
    moved = np.linalg.norm(together(expected) - before)
    assert moved > 0.1
    assert np.linalg.norm(together(values(model)) - together(expected)) < 1e-5 * moved


def test_only_what_was_sent_moves(origin, config, kept, process, population):
    model = origin.trained_model()
    before = values(model)
    server = Server(process, model)
    metrics = server.next(
        3, [population.pipeline.round(client, 3) for client in population.clients]
    )
    submodels = SubModels(origin.model_config, kept, config.seed)
    _, masks = submodels.scatter_update([tf.zeros(e.shape) for e in submodels.small], 3)
    for after, start, mask in zip(values(model), before, masks, strict=True):
        moved = after != start
        assert not moved[~mask.numpy()].any()
        assert moved[mask.numpy()].any()
    assert sum(not mask.numpy().all() for mask in masks) == 6
    assert metrics["clients"] == 3


def test_adam_leaves_the_moments_of_untrained_coordinates_alone(origin, config):
    kept = [
        {"feed_forward_1": 64, "feed_forward_2": 64},
        {"feed_forward_1": 64, "feed_forward_2": 32},
    ]
    submodels = SubModels(origin.model_config, kept, config.seed)
    finalizer = build_finalizer(
        submodels,
        server_optimizer(replace(config, server="adam")),
        tff.to_type([tff.TensorType(np.float32, entry.shape) for entry in submodels.small]),
    )
    weights = [np.zeros(entry.shape, np.float32) for entry in submodels.full]
    update = [np.ones(entry.shape, np.float32) for entry in submodels.small]
    first = finalizer.next(finalizer.initialize(), weights, update)
    second = finalizer.next(first.state, first.result, update)
    place = [entry.name for entry in submodels.full].index("block_1/feed_forward_2/up/bias")
    module = (1, "feed_forward_2")
    times = sum(
        np.isin(np.arange(64), submodels.indices(number)[module]).astype(int) for number in (0, 1)
    )
    moments = second.state["optimizer"]["accumulator"][place]
    # The first moment of a gradient of 1 is 0.1 after one update and 0.19 after two.
    np.testing.assert_allclose(moments, np.choose(times, [0, 0.1, 0.19]), rtol=1e-5)
    assert set(times) == {0, 1, 2}
    assert (second.result[place] == 0).sum() == (times == 0).sum()


def test_batch_normalisation_is_refused(origin, config):
    model = origin.model_config
    model = replace(model, encoder=replace(model.encoder, conv_norm="batch"))
    with pytest.raises(ValueError, match="conv_norm=batch"):
        build_process(model, [{"feed_forward_1": 64, "feed_forward_2": 64}] * 2, config)
