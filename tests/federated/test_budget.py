from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tfasr.configs.federated import PlanConfig
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.budget import (
    Droppable,
    cautious_penalties,
    droppable,
    most_parameters,
    spend,
    spend_evenly,
)
from tfasr.federated.plans import kept_units
from tfasr.models.building import full_units
from tfasr.models.layout import layout_without_weights

# Two blocks of 100 units of 3 parameters, and 400 parameters more.
MODEL = Droppable(1000, [{"feed_forward": 100}] * 2, [{"feed_forward": 3}] * 2)
CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=2, dim=16, num_heads=4, conv_kernel=3, norm_groups=8),
    num_mels=8,
    vocabulary=5,
)


def test_rates_are_in_proportion_to_what_is_saved_by_what_is_lost():
    # 50 of 200 units must go; a third of the penalty, three times the rate.
    found = spend(MODEL, [0.1, 0.3], 850)
    np.testing.assert_allclose(found.rates, [0.375, 0.125], atol=2e-3)
    assert found.parameters == 850
    assert found.loss == pytest.approx(0.1 * 0.375**2 + 0.3 * 0.125**2, rel=0.02)


def test_one_rate_for_all_loses_more_at_the_same_budget():
    flat = spend_evenly(MODEL, [0.1, 0.3], 850)
    np.testing.assert_allclose(flat.rates, [0.25, 0.25], atol=5e-3)
    assert spend(MODEL, [0.1, 0.3], 850).loss < flat.loss


@pytest.mark.parametrize("penalties", [(0.02, 0.5), (0.3, 0.3), (-0.01, 0.2)])
def test_no_other_rates_of_whole_percents_lose_less(penalties):
    found = spend(MODEL, penalties, 800)
    grid = np.arange(0, 0.905, 0.01)
    losses = [
        sum(max(p, 1e-4) * r**2 for p, r in zip(penalties, rates, strict=True))
        for rates in product(grid, grid)
        if MODEL.left(rates) <= 800
    ]
    assert found.parameters <= 800
    assert found.loss <= min(losses) + 1e-9


def test_a_model_that_fits_is_left_whole():
    found = spend(MODEL, [0.1, 0.3], 1000)
    assert (found.rates, found.parameters, found.loss) == ((0.0, 0.0), 1000, 0.0)


def test_a_budget_that_nothing_fits_is_refused():
    with pytest.raises(ValueError, match=r"must pay for 460 parameters, 90% of .* pays for 459"):
        spend(MODEL, [0.1, 0.3], 459)
    assert spend(MODEL, [0.1, 0.3], 460).parameters == 460


def test_what_is_left_is_what_the_client_s_model_has():
    modules = ("feed_forward_1", "attention", "convolution", "feed_forward_2")
    model, rates = droppable(CONFIG, modules), (0.5, 0.25)
    units = [
        {module: model.kept(rate, count) for module, count in block.items()}
        for block, rate in zip(full_units(CONFIG), rates, strict=True)
    ]
    assert units[0] == {
        "feed_forward_1": 32,
        "attention": 2,
        "convolution": 4,
        "feed_forward_2": 32,
    }
    assert model.left(rates) == layout_without_weights(CONFIG, units).parameters()


def test_a_plan_stays_within_its_bytes(rank_blocks):
    ranking = rank_blocks({0: 0.01, 1: 0.4})
    full = layout_without_weights(CONFIG, full_units(CONFIG)).parameters()
    plan = PlanConfig(kind="budget", budget=8 * (full - 2500) + 4)
    units = kept_units(plan, CONFIG, ranking)
    left = layout_without_weights(CONFIG, units).parameters()
    # A unit has 33 parameters, and both modules of a block lose one at a time.
    assert full - 2500 - 2 * 33 < left <= full - 2500
    assert units[0]["feed_forward_1"] < units[1]["feed_forward_1"]
    assert units[0]["attention"] == 4


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"budget": 8004.0}, 1000),
        ({"budget": 12_000.0, "budget_of": "memory"}, 1000),
        ({"budget": 0.5, "budget_of": "seconds", "seconds_per_parameter": 5e-4}, 1000),
    ],
)
def test_budgets_pay_for_parameters(settings, parameters):
    assert most_parameters(PlanConfig(kind="budget", **settings)) == parameters


def test_what_is_not_known_counts_as_harm(rank_blocks):
    ranking = rank_blocks({1: 0.0, 0: 0.2})
    assert cautious_penalties(ranking) == pytest.approx([0.21, 0.01])


def test_a_ranking_by_a_signal_has_no_penalties_to_spend(rank_blocks):
    ranking = rank_blocks({1: 0.0, 0: 0.2}, method="churn")
    signals = tuple(replace(score, interval=None) for score in ranking.blocks)
    with pytest.raises(ValueError, match="needs the penalties of resets; got a ranking by churn"):
        cautious_penalties(replace(ranking, blocks=signals))
