import socket
from dataclasses import replace

import pytest

from pipelines import federate
from tfasr.configs.federated import PlanConfig
from tfasr.configs.loading import to_mapping, to_yaml
from tfasr.federated import hosts

pytestmark = pytest.mark.federated


def test_a_ranking_of_another_model_is_refused(config, ranking):
    config = replace(config, ranking=config.out.parent / "ranking.json")
    replace(ranking, model_hash="0" * 64).write(config.ranking)
    with pytest.raises(ValueError, match=r"ranking\.json: ranks another model"):
        federate.run(config)


def test_a_plan_without_its_ranking_says_how_to_get_one(config):
    told = r"ranking\.json: plan\.kind=ambient needs a ranking; got no such file\. Run `tfasr study"
    with pytest.raises(ValueError, match=told):
        federate.run(config)


FLAT = PlanConfig(kind="flat")


def test_a_plan_for_another_model_is_refused(config):
    plan = PlanConfig(kind="manual", rates=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match=r"plan\.rates must name every block; got 3 for"):
        federate.run(replace(config, plan=plan))
    assert not config.out.exists()


def test_a_run_with_batch_normalisation_is_refused_before_anything_is_written(config, origin):
    encoder = replace(origin.model_config.encoder, conv_norm="batch")
    model = replace(origin.model_config, encoder=encoder)
    run = config.out.with_name("batch")
    run.mkdir()
    for name in ("tokenizer.model", "features.json"):
        (run / name).write_bytes((origin.folder / name).read_bytes())
    settings = to_mapping(replace(origin.config, model=model, run=run))
    (run / "config.yaml").write_text(to_yaml({"train": settings}))
    with pytest.raises(ValueError, match=r"must not have batch normalisation.*conv_norm=group"):
        federate.run(replace(config, run=run, plan=FLAT))
    assert not config.out.exists()


def test_fewer_clients_than_a_round_wants_are_refused_before_anything_long(config, no_process):
    with pytest.raises(ValueError, match=r"got clients_per_round=9 of 3 clients\. Lower it"):
        federate.run(replace(config, plan=FLAT, clients_per_round=9))
    # And nothing of it stands in the way of the next try.
    with pytest.raises(AssertionError, match="processes are built"):
        federate.run(replace(config, plan=FLAT, clients_per_round=2))


def test_workers_that_are_not_there_are_refused_by_name(config, no_process, monkeypatch):
    monkeypatch.setattr(hosts, "ANSWER_SECONDS", 1)
    with socket.create_server(("localhost", 0)) as silent:
        address = f"localhost:{silent.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"workers must answer; got nothing from {address}"):
            federate.run(replace(config, plan=FLAT, workers=(address,)))


@pytest.fixture
def no_process(monkeypatch):
    """Fails where the processes would be built, which takes long."""

    def fail(*arguments):
        raise AssertionError("processes are built")

    monkeypatch.setattr(federate, "build_phases", fail)
