import socket
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
import tensorflow_federated as tff

from tfasr.artifacts.files import read_json_lines
from tfasr.configs.federated import FederateConfig
from tfasr.federated.aggregators import make_aggregator
from tfasr.federated.connections import WorkerLost
from tfasr.federated.folder import create_run
from tfasr.federated.hosts import hosts_context, require_answers, split
from tfasr.federated.phases import Phase
from tfasr.federated.rounds import FederatedTrainer, Server
from tfasr.federated.workers import started_worker, worker_context
from tfasr.training.run import Run

pytestmark = pytest.mark.federated


@contextmanager
def two_workers():
    """Workers of two hosts: processes by address."""
    with ExitStack() as stack:
        started = [stack.enter_context(started_worker(0)) for _ in range(2)]
        yield {f"localhost:{port}": process for process, port in started}


@pytest.fixture(scope="module")
def workers():
    with two_workers() as processes:
        yield processes


def values(model):
    return [variable.numpy() for variable in model.variables]


def together(weights):
    return np.concatenate([weight.ravel() for weight in weights])


def test_two_workers_train_as_one_does(workers, origin, process, population, tmp_path):
    def trained(context):
        model = origin.trained_model()
        with context:
            server = Server(process, model)
            metrics = server.next(
                0, [population.pipeline.round(client, 0) for client in population.clients]
            )
        assert metrics["clients"] == 3
        return together(values(model)), float(metrics["loss"])

    (one, loss), (two, same) = (
        trained(context) for context in (worker_context(tmp_path / "log"), hosts_context(workers))
    )
    moved = np.linalg.norm(one - together(values(origin.trained_model())))
    assert moved > 0.1
    # The three updates are added up in another order, each addition to float32's 6e-8.
    assert np.linalg.norm(one - two) < 1e-6 * moved
    assert loss == pytest.approx(same, rel=1e-6)


# The mean is that of the round above.
@pytest.mark.parametrize(
    "kind",
    [
        "clipping",
        "quantised",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("zeroing", "dp", "secure")),
    ],
)
def test_every_aggregator_can_be_split(workers, kind, noise, tmp_path):
    # Noise so small that it does not show; it has no seed.
    config = FederateConfig(
        run=tmp_path, data=tmp_path, out=tmp_path, aggregator=kind, dp_noise=1e-6
    )
    vector = tff.to_type([tff.TensorType(np.float32, [100])])
    aggregator = make_aggregator(config).create(vector, tff.TensorType(np.float32))
    updates = [[noise(100, seed=client)] for client in range(3)]

    def aggregated():
        first = aggregator.next(aggregator.initialize(), updates, [1.0, 2.0, 3.0])
        if kind == "dp":  # What it estimates has noise of its own, however small the other is.
            return first.result[0]
        return aggregator.next(first.state, updates, [1.0, 2.0, 3.0]).result[0]

    with hosts_context(workers):
        two = aggregated()
    with worker_context(tmp_path / "log"):
        one = aggregated()
    np.testing.assert_allclose(two, one, atol=1e-6 * np.abs(one).max() + 1e-6 * (kind == "dp"))


def test_clients_are_dealt_in_runs_and_all_else_is_given_to_all():
    kind = tff.to_type(
        [
            ("state", tff.FederatedType(np.int32, tff.SERVER)),
            ("data", tff.FederatedType(np.int32, tff.CLIENTS)),
        ]
    )
    argument = tff.structure.Struct([("state", 7), ("data", [1, 2, 3, 4, 5])])
    parts = split(argument, kind, 3)
    assert [part.state for part in parts] == [7, 7, 7]
    assert [part.data for part in parts] == [[1], [2, 3], [4, 5]]
    assert [part.data for part in split(argument, kind, 9)] == [[1], [2], [3], [4], [5]]
    assert split(4, tff.to_type(np.int32), 3) == [4]
    assert split(None, None, 3) == [None]


@pytest.fixture(scope="module")
def train(plan, process, sizes):
    """Trains a configuration's run on a population."""

    def train(config, population):
        run, phases = create_run(config, plan), [Phase(0, plan, process, sizes)]
        trainer = FederatedTrainer(run, config, phases, population, lambda model: {"wer": 0.5})
        trainer.train(lambda done, total, **figures: None)
        return read_json_lines(config.out / "rounds.jsonl")

    return train


def weights(config):
    return values(Run(config.out).trained_model(config.rounds))


@pytest.fixture(scope="module")
def undisturbed(workers, train, make_config, make_population, tmp_path_factory):
    """Settings of two rounds on two workers, and the weights that they come to."""
    config = make_config(tmp_path_factory.mktemp("undisturbed") / "adapted")
    config = replace(config, rounds=2, workers=tuple(workers))
    train(config, make_population(config))
    return config, weights(config)


@pytest.fixture
def killed_in_the_second_round(monkeypatch):
    """Makes a population in whose second round workers die, when the first result is asked for."""

    def deadly(population, victims):
        dying = []
        compute = tff.framework.RemoteExecutorGrpcStub.compute

        def compute_after_deaths(stub, request):
            while dying:
                victim = dying.pop()
                victim.kill()
                victim.wait()
            return compute(stub, request)

        class Deadly:
            def __getattr__(self, name):
                return getattr(population.pipeline, name)

            def round(self, client, number):
                if number == 1:
                    dying[:] = victims
                return population.pipeline.round(client, number)

        monkeypatch.setattr(tff.framework.RemoteExecutorGrpcStub, "compute", compute_after_deaths)
        return replace(population, pipeline=Deadly())

    return deadly


def test_a_worker_that_dies_in_a_round_is_stood_in_for(
    undisturbed, train, make_population, killed_in_the_second_round, tmp_path
):
    with two_workers() as processes:
        config = replace(undisturbed[0], out=tmp_path / "adapted", workers=tuple(processes))
        population = make_population(config)
        _, second = processes.values()
        rows = train(config, killed_in_the_second_round(population, [second]))
    for ours, theirs in zip(weights(config), undisturbed[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "workers_lost" not in rows[1]
    assert rows[2]["workers_lost"] == [config.workers[1]]


def test_a_round_without_workers_fails_by_name_and_the_run_goes_on_from_it(
    undisturbed, workers, train, make_population, killed_in_the_second_round, tmp_path
):
    with two_workers() as processes:
        config = replace(undisturbed[0], out=tmp_path / "adapted", workers=tuple(processes))
        population = make_population(config)
        deadly = killed_in_the_second_round(population, processes.values())
        with pytest.raises(WorkerLost, match="workers must be there; got none of") as raised:
            train(config, deadly)
    told = str(raised.value)
    assert all(address in told for address in processes)
    assert "go on from the last round" in told
    assert "\n" not in told
    assert Run(config.out).checkpoints.steps() == [0, 1]
    # Other workers: where a run is computed is none of its settings.
    train(replace(config, workers=tuple(workers)), population)
    for ours, theirs in zip(weights(config), undisturbed[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_address_that_does_not_answer_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("tfasr.federated.hosts.ANSWER_SECONDS", 1)
    with socket.create_server(("localhost", 0)) as silent:
        port = silent.getsockname()[1]
        told = rf"got nothing from localhost:{port} in 1 s\. Start one there with .* --port {port}"
        with pytest.raises(ValueError, match=told):
            require_answers([f"localhost:{port}"])


def test_a_server_of_something_else_is_refused_by_name():
    with futures.ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("localhost:0")
        server.start()
        told = f"must be of TensorFlow Federated; got another server at localhost:{port}"
        with pytest.raises(ValueError, match=told):
            require_answers([f"localhost:{port}"])
        server.stop(None).wait()


def test_a_local_worker_that_ended_is_told_with_its_log(tmp_path):
    one = tff.tensorflow.computation(lambda: 1)
    with worker_context(tmp_path / "log") as worker:
        worker.kill()
        worker.wait()
        with pytest.raises(WorkerLost, match=r"log: TFF's worker ended.*Run the same command"):
            one()
