from dataclasses import replace
from pathlib import Path

import pytest

from tfasr.configs.clients import ClientsConfig
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.loading import from_mapping, to_mapping

CONFIG = FederateConfig(run=Path("run"), data=Path("data"), out=Path("out"))


def test_the_default_plan_is_that_of_table_3():
    assert PlanConfig() == PlanConfig(kind="ambient", blocks=2, rate=0.5, base_rate=0.1)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_leaves_some_units(rate):
    with pytest.raises(ValueError, match=rf"base_rate must be in \[0, 1\); got base_rate={rate}"):
        PlanConfig(base_rate=rate)


def test_a_manual_plan_s_rates_leave_some_units():
    with pytest.raises(ValueError, match=r"rates must be in \[0, 1\); got 1\.0 in"):
        PlanConfig(kind="manual", rates=(0.5, 1.0))


@pytest.mark.parametrize("plan", [{"kind": "manual"}, {"kind": "flat", "rates": (0.5,)}])
def test_rates_of_blocks_are_for_manual_plans(plan):
    with pytest.raises(ValueError, match=r"with kind=manual and no other; got kind="):
        PlanConfig(**plan)


def test_groups_of_clients_are_averaged_alone():
    told = r"aggregator=secure needs one sub-model a round; got plan\.groups=2"
    with pytest.raises(ValueError, match=told):
        replace(CONFIG, plan=PlanConfig(groups=2), aggregator="secure")


@pytest.mark.parametrize(
    "plan", [{"kind": "budget"}, {"kind": "flat", "budget": 1e6}, {"kind": "flat", "budget": -1}]
)
def test_a_budget_is_for_its_own_plan(plan):
    with pytest.raises(ValueError, match="budget must be positive with kind=budget"):
        PlanConfig(**plan)


def test_a_budget_of_seconds_needs_to_know_what_a_parameter_takes():
    with pytest.raises(ValueError, match="seconds_per_parameter must be positive with budget_of"):
        PlanConfig(kind="budget", budget=0.5, budget_of="seconds")


def test_only_chosen_blocks_can_be_frozen():
    with pytest.raises(ValueError, match=r"chosen=freeze needs blocks .* got kind=flat"):
        PlanConfig(kind="flat", chosen="freeze")


@pytest.mark.parametrize("axes", [(), ("heads", "heads")])
def test_axes_are_named_once(axes):
    with pytest.raises(ValueError, match="axes must be at least one, none twice"):
        PlanConfig(axes=axes)


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be at least 1; got rounds=0"):
        FederateConfig(run=Path("run"), data=Path("data"), out=Path("out"), rounds=0)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"dp_noise": 0.0}, "dp_noise must be positive"),
        ({"dp_delta": 1.0}, r"dp_delta must be in \(0, 1\)"),
        ({"client_proximal": -1.0}, "client_proximal must be at least 0"),
        ({"server_momentum": 1.0}, r"server_momentum must be in \[0, 1\)"),
    ],
)
def test_settings_of_optimizers_have_bounds(setting, told):
    with pytest.raises(ValueError, match=told):
        replace(CONFIG, **setting)


def test_the_ranking_lies_in_the_run_unless_it_is_given():
    assert CONFIG.ranking_path == Path("run/study/ranking.json")


def test_settings_survive_yaml():
    plan = PlanConfig(kind="manual", rates=(0.1, 0.2), axes=("heads",))
    clients = ClientsConfig(by="dirichlet", count=7, sampling="weighted", dropout_share=0.1)
    for config in (CONFIG, replace(CONFIG, plan=plan), replace(CONFIG, clients=clients)):
        assert from_mapping(FederateConfig, to_mapping(config), "here") == config


def test_an_epsilon_is_of_uniform_sampling_alone():
    with pytest.raises(ValueError, match=r"aggregator=dp needs clients\.sampling=uniform"):
        replace(CONFIG, aggregator="dp", clients=ClientsConfig(sampling="weighted"))


@pytest.mark.parametrize("by", ["dirichlet", "size"])
def test_clients_are_told_apart_where_the_validation_split_names_them(by):
    with pytest.raises(ValueError, match=rf"needs clients\.by=speaker or domain.*by={by}"):
        replace(CONFIG, per_client=True, clients=ClientsConfig(by=by))


@pytest.mark.parametrize("address", ["host", "host:", ":8000", "host:http", "host:0", "host:65536"])
def test_a_worker_is_a_host_and_a_port(address):
    with pytest.raises(ValueError, match=f"workers must be HOST:PORT; got workers='{address}'"):
        replace(CONFIG, workers=("there:8000", address))


def test_a_worker_is_named_once():
    with pytest.raises(ValueError, match="workers must be named once; got workers=a:1,b:1,a:1"):
        replace(CONFIG, workers=("a:1", "b:1", "a:1"))
