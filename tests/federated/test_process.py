from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.federated.optimizers import server_optimizer
from tfasr.federated.plans import ClientPlan, client_plan
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
            slopes = [
                slope + config.client_proximal * (variable - first)
                for slope, variable, first in zip(
                    tape.gradient(loss, model.variables), model.variables, start, strict=True
                )
            ]
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


@pytest.fixture(scope="module")
def make(origin):
    """Makes the model with its first weights."""

    def make():
        model = build_model(origin.model_config)
        initialize(Layout(model), 0)
        return model

    return make


# The proximal term by itself is worked out by hand in tests/federated/test_optimizers.py.
@pytest.mark.parametrize("client_proximal", [0.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_nothing_dropped_is_federated_averaging(
    origin, make, full_config, population, client_proximal
):
    model_config = origin.model_config
    full_config = replace(full_config, client_proximal=client_proximal)
    plan = client_plan(full_config.plan, model_config)
    process, model = build_process(model_config, plan, full_config), make()
    server = Server(process, model)
    # Clients of different sizes, so that a mean without weights would not pass.
    datasets = [population.pipeline.round(client, 0) for client in population.clients[::2]]
    server.next(0, datasets)
    expected = averaged_by_hand(make(), datasets, full_config)
    before = together(values(make()))
    moved = np.linalg.norm(together(expected) - before)
    assert moved > 0.1
    assert np.linalg.norm(together(values(model)) - together(expected)) < 1e-5 * moved


def test_only_what_was_sent_moves(origin, config, plan, process, population):
    model = origin.trained_model()
    before = values(model)
    server = Server(process, model)
    metrics = server.next(
        3, [population.pipeline.round(client, 3) for client in population.clients]
    )
    submodels = SubModels(origin.model_config, plan, config.seed)
    _, masks = submodels.scatter_update([tf.zeros(e.shape) for e in submodels.small], 3)
    for after, start, mask in zip(values(model), before, masks, strict=True):
        moved = after != start
        assert not moved[~mask.numpy()].any()
        assert moved[mask.numpy()].any()
    assert sum(not mask.numpy().all() for mask in masks) == 6
    assert metrics["clients"] == 3


SEEDED = {
    "trained": ClientPlan(units=[{"feed_forward_1": 32}], seeded=(0,)),
    "frozen": ClientPlan(units=[{"feed_forward_1": 32}], seeded=(0,), frozen=(0,)),
}


@pytest.fixture(scope="module")
def seeded(origin, make_config):
    """Processes of a block that is drawn from its seed, and what is sent of it."""
    made = {}

    def process_of(name):
        if name not in made:
            config, model = make_config(Path()), origin.model_config
            process = build_process(model, SEEDED[name], config)
            made[name] = process, SubModels(model, SEEDED[name], config.seed)
        return made[name]

    return process_of


# One that is trained from its draw is also in tests/federated/test_phases.py.
@pytest.mark.parametrize("name", [pytest.param("trained", marks=pytest.mark.slow), "frozen"])
def test_seeded_blocks_are_trained_from_their_draws_or_left_alone(make, seeded, population, name):
    process, submodels = seeded(name)
    model = make()
    for place, value in submodels.seeding.draw(submodels.seeding.seeds()).items():
        model.variables[place].assign(value)
    before = values(model)
    metrics = Server(process, model).next(0, [population.pipeline.round(population.clients[0], 0)])
    assert metrics["clients"] == 1
    moved = {
        entry.block
        for entry, after, start in zip(submodels.full, values(model), before, strict=True)
        if (after != start).any()
    }
    assert moved == {None, 0} - set(SEEDED[name].frozen)


def test_a_round_stops_where_a_seed_does_not_give_the_server_s_block(make, seeded, population):
    model = make()
    for entry in Layout(model).entries:
        entry.variable.assign_add(tf.ones_like(entry.variable))
    server = Server(seeded("frozen")[0], model)
    with pytest.raises(Exception, match="blocks drawn from a seed must be the server"):
        server.next(0, [population.pipeline.round(population.clients[0], 0)])


# Of a squared gradient, by TFF's default for the second moment, as float32 has it.
SHARE = float(1 - np.float32(0.999))


# What each remembers of a gradient of 1 after none, one and two updates with it.
@pytest.mark.parametrize(
    ("server", "memory"),
    [
        ("momentum", {"accumulator": [0, 1, 1.9]}),
        (
            "adam",
            {"accumulator": [0, 0.1, 0.19], "preconditioner": [0, SHARE, 2 * SHARE - SHARE**2]},
        ),
        (
            "yogi",
            {
                "accumulator": [0, 0.1, 0.19],
                "preconditioner": [1e-6, 1e-6 + SHARE, 1e-6 + 2 * SHARE],
            },
        ),
    ],
    ids=["momentum", "adam", "yogi"],
)
def test_a_coordinate_that_was_not_trained_keeps_its_weight_and_state(
    origin, config, server, memory
):
    submodels = SubModels(
        origin.model_config, ClientPlan(units=[{"feed_forward_2": 32}]), config.seed
    )
    finalizer = build_finalizer(
        submodels,
        server_optimizer(replace(config, server=server)),
        tff.to_type([tff.TensorType(np.float32, entry.shape) for entry in submodels.small]),
        submodels.scatter_update,
    )
    weights = [np.zeros(entry.shape, np.float32) for entry in submodels.full]
    update = [np.ones(entry.shape, np.float32) for entry in submodels.small]
    first = finalizer.next(finalizer.initialize(), weights, update)
    second = finalizer.next(first.state, first.result, update)
    place = [entry.name for entry in submodels.full].index("block_0/feed_forward_2/up/bias")
    trained = [
        np.isin(np.arange(64), submodels.indices(number)[0, "feed_forward_2"]) for number in (0, 1)
    ]
    times = np.add(*map(np.int32, trained))
    assert set(times) == {0, 1, 2}
    for name, expected in memory.items():
        remembered = second.state["optimizer"][name][place]
        np.testing.assert_allclose(remembered, np.choose(times, expected), rtol=1e-5)
    assert (second.result[place] == 0).sum() == (times == 0).sum()
    # Trained in the first round alone: the second, which has the memory of it, moves it no more.
    alone = trained[0] & ~trained[1]
    np.testing.assert_array_equal(second.result[place][alone], first.result[place][alone])


def test_batch_normalisation_is_refused(origin, config):
    model = origin.model_config
    model = replace(model, encoder=replace(model.encoder, conv_norm="batch"))
    with pytest.raises(ValueError, match="conv_norm=batch"):
        build_process(model, ClientPlan(units=[{}]), config)
