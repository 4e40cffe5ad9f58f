import re
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tfasr.artifacts.files import append_json_line, read_json_lines
from tfasr.configs.clients import ClientsConfig
from tfasr.configs.features import AugmentConfig
from tfasr.configs.federated import PlanConfig
from tfasr.federated.folder import create_run
from tfasr.federated.phases import Phase, build_phases
from tfasr.federated.plans import client_plan
from tfasr.federated.rounds import FederatedTrainer
from tfasr.training.run import Run

pytestmark = pytest.mark.federated


@pytest.fixture(scope="module")
def train(plan, process, sizes):
    """Trains a configuration's run on a population."""

    def train(config, population, report=lambda done, total, **figures: None):
        # The "error rate" falls from one evaluation to the next, as a real one should.
        rates = iter(np.linspace(0.9, 0.1, 9))

        def validate(model):
            return {"wer": float(next(rates))}

        run, phases = create_run(config, plan), [Phase(0, plan, process, sizes)]
        return FederatedTrainer(run, config, phases, population, validate).train(report)

    return train


def weights(folder, step):
    return [variable.numpy() for variable in Run(folder).trained_model(step).variables]


@pytest.fixture(scope="module")
def finished(train, make_config, make_population, tmp_path_factory):
    """An uninterrupted run of 4 rounds, and what was reported of it."""
    config = make_config(tmp_path_factory.mktemp("finished") / "adapted")
    population = make_population(config)
    reported = []
    train(
        config, population, lambda done, total, **figures: reported.append((done, total, figures))
    )
    return config, population, reported


class DeafFrom:
    """A population's batches, from one round on of a loudness that no float holds."""

    def __init__(self, pipeline, number):
        self.pipeline, self.number = pipeline, number
        self.deafening = replace(pipeline, augmentation=AugmentConfig(gain_db=(1e5, 1e5)))

    def __getattr__(self, name):
        return getattr(self.pipeline, name)

    def round(self, client, number):
        pipeline = self.deafening if number >= self.number else self.pipeline
        return pipeline.round(client, number)


def losing_one(population):
    """The population at the least share of drop-outs that takes one of the first round's two."""
    for percent in range(100):
        lossy = replace(population, config=ClientsConfig(dropout_share=percent / 100))
        if sum(each.answers for each in lossy.sample(2, 0, 0)) == 1:
            return lossy
    raise AssertionError("both answer or neither")


class Only:
    """A population of which one client alone is ever drawn."""

    def __init__(self, population, drawn):
        self.pipeline, self.drawn = population.pipeline, drawn

    def sample(self, size, seed, round_number):
        return [replace(self.drawn, place=0)]


@pytest.fixture(scope="module")
def stopped(train, make_config, make_population, tmp_path_factory):
    """A run that failed in its third round, its clients, and what it said."""
    config = make_config(tmp_path_factory.mktemp("stopped") / "adapted")
    population = make_population(config)
    with pytest.raises(ValueError, match="must be finite") as raised:
        train(config, replace(population, pipeline=DeafFrom(population.pipeline, 2)))
    return config, population, str(raised.value)


def test_updates_that_are_not_finite_stop_the_run(stopped):
    config, _, told = stopped
    assert "got none of 2 in round 3" in told
    # Both clients' audio is to blame, not the settings.
    assert re.search(r"features of (ada|bo|cy), (ada|bo|cy)\. Check augmentation", told)
    assert Run(config.out).checkpoints.steps()[-1] == 2


def test_a_run_that_was_stopped_ends_with_the_same_weights(finished, stopped, train):
    config, population, _ = stopped
    # As of a kill after the log line of round 3 and before its checkpoint.
    append_json_line(config.out / "rounds.jsonl", {"round": 3, "loss": 1e9})
    train(config, population)
    for ours, theirs in zip(weights(config.out, 4), weights(finished[0].out, 4), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (read_json_lines(c.out / "rounds.jsonl") for c in (config, finished[0]))
    assert [row["round"] for row in ours] == [0, 1, 2, 3, 4]
    assert [row.get("loss") for row in ours] == [row.get("loss") for row in theirs]


def test_every_round_trains_the_model(finished):
    out = finished[0].out
    assert any((a != b).any() for a, b in zip(weights(out, 3), weights(out, 4), strict=True))


def test_a_line_of_the_log_tells_who_trained_what(finished, sizes):
    config, population, _ = finished
    row = read_json_lines(config.out / "rounds.jsonl")[1]
    assert len(set(row["clients"])) == 2
    assert set(row["clients"]) <= {client.name for client in population.clients}
    assert row["not_finite"] == 0
    assert row["loss"] > 0
    assert row["steps"] == 4
    assert row["step_seconds"] == pytest.approx(row["seconds"] / 4, abs=1e-3)
    assert row["bytes_up_in_total"] == 2 * row["bytes_up"]
    assert {name: row[name] for name in sizes.to_json()} == sizes.to_json()


def test_it_is_evaluated_before_the_first_round_and_every_second(finished):
    rows = read_json_lines(finished[0].out / "rounds.jsonl")
    assert [row.get("wer") for row in rows] == pytest.approx([0.9, None, 0.8, None, 0.7])


def test_every_round_is_reported(finished):
    reported = finished[2]
    assert [(done, total) for done, total, _ in reported] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert reported[1][2]["wer"] == pytest.approx(0.8)
    assert reported[1][2].keys() == {"loss", "wer", "step_seconds", "MB_down", "MB_up"}


def test_the_outcome_is_a_run_with_the_best_rounds_weights(finished, origin):
    config, *_ = finished
    run = Run(config.out)
    assert run.checkpoints.best_step() == 4
    assert run.model_config == origin.model_config
    assert run.tokenizer.pieces == origin.tokenizer.pieces
    for ours, theirs in zip(run.trained_model().variables, weights(config.out, 4), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert set(yaml.safe_load((config.out / "config.yaml").read_text())) == {"train", "federate"}


def test_a_round_in_which_nobody_answers_leaves_the_model_alone(
    train, make_config, make_population, tmp_path
):
    clients = ClientsConfig(dropout_share=1 - 1e-9)
    config = replace(make_config(tmp_path / "adapted"), rounds=1, clients=clients)
    population = make_population(config)
    train(config, population)
    for before, after in zip(weights(config.out, 0), weights(config.out, 1), strict=True):
        np.testing.assert_array_equal(before, after)
    row = read_json_lines(config.out / "rounds.jsonl")[1]
    assert sorted(row["dropped_out"]) == sorted(row["clients"])
    assert "loss" not in row
    assert row["bytes_up_in_total"] == 0
    assert row["bytes_down_in_total"] == 2 * row["bytes_down"]


def test_an_update_that_does_not_arrive_has_no_weight(
    train, make_config, make_population, tmp_path
):
    outcomes = []
    for name in ("lossy", "alone"):
        config = replace(make_config(tmp_path / name), rounds=1)
        population = losing_one(make_population(config))
        [answering] = [each for each in population.sample(2, config.seed, 0) if each.answers]
        if name == "alone":
            population = Only(population, answering)
        train(config, population)
        outcomes.append((weights(config.out, 1), read_json_lines(config.out / "rounds.jsonl")[1]))
    (lossy, row), (alone, _) = outcomes
    for ours, theirs in zip(lossy, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(row["dropped_out"]) == 1
    assert row["bytes_up_in_total"] == row["bytes_up"]
    assert row["bytes_down_in_total"] == 2 * row["bytes_down"]


def test_updates_that_are_not_finite_from_finite_audio_are_the_settings_fault(
    plan, process, sizes, config, population
):
    def validate(model):
        model.variables[0].assign(tf.fill(model.variables[0].shape, np.nan))
        return {"wer": 1.0}

    run, phases = create_run(config, plan), [Phase(0, plan, process, sizes)]
    trainer = FederatedTrainer(run, config, phases, population, validate)
    with pytest.raises(ValueError, match=r"got none of 2 in round 1\. Lower client_learning_rate"):
        trainer.train(lambda done, total, **figures: None)


@pytest.fixture
def trained_by(origin, make_config, make_population, tmp_path):
    """Runs by an aggregator, from their first round on or gone on with."""
    model_config = origin.model_config

    def begin(aggregator):
        plan = PlanConfig(kind="flat", rate=0.5)
        config = replace(make_config(tmp_path), plan=plan, aggregator=aggregator)
        plan = client_plan(config.plan, model_config)
        phases = build_phases(model_config, plan, config)

        def train(name, rounds):
            own = replace(config, out=tmp_path / name, rounds=rounds)
            trainer = FederatedTrainer(
                create_run(own, plan), own, phases, make_population(own), lambda model: {"wer": 0.5}
            )
            trainer.train(lambda done, total, **figures: None)
            return own.out

        return train

    return begin


@pytest.mark.parametrize(
    "aggregator",
    [
        "clipping",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("zeroing", "quantised", "secure")
        ),
    ],
)
def test_a_run_that_goes_on_ends_with_the_same_weights(trained_by, aggregator):
    train = trained_by(aggregator)
    whole = train("whole", 2)
    train("parts", 1)
    # The second round has of the first what the aggregator learned in it.
    parts = train("parts", 2)
    for ours, theirs in zip(weights(parts, 2), weights(whole, 2), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def aggregator_state(folder, step):
    reader = tf.train.load_checkpoint(str(folder / f"checkpoints/step-{step:08d}/state"))
    kinds = reader.get_variable_to_dtype_map()
    # An event of dp_accounting's is kept as text.
    names = sorted(n for n in kinds if "server/aggregator" in n and kinds[n] != tf.string)
    return [float(reader.get_tensor(name)) for name in names]


@pytest.mark.slow
def test_a_private_run_goes_on_with_the_clipping_norm_that_it_had(trained_by):
    train = trained_by("dp")
    train("parts", 1)
    parts = train("parts", 2)
    before, after = (aggregator_state(parts, step) for step in (1, 2))
    # TFF's first norm, 0.1, is exceeded by all; each round raises it by about e^(0.2 * 0.5).
    norms = [place for place, value in enumerate(before) if 0.1 < value < 0.13]
    assert norms
    for norm in norms:
        assert after[norm] == pytest.approx(before[norm] * np.exp(0.1), rel=0.05)
