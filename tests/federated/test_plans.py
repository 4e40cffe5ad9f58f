from dataclasses import replace

import pytest

from tfasr.configs.federated import PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.configs.presets import TINY
from tfasr.federated.accounting import account
from tfasr.federated.plans import ClientPlan, block_rates, client_plan, kept_units, later_plan
from tfasr.models.layout import layout_without_weights

FULL = {"feed_forward_1": 256, "attention": 4, "convolution": 8, "feed_forward_2": 256}


def test_ambient_gives_its_rate_to_the_smallest_penalties(ranking):
    plan = PlanConfig(kind="ambient", blocks=1, rate=0.5, base_rate=0.1)
    assert block_rates(plan, 2, ranking) == [0.1, 0.5]


def test_critical_gives_its_rate_to_the_largest_penalties(ranking):
    plan = PlanConfig(kind="critical", blocks=1, rate=0.5, base_rate=0.1)
    assert block_rates(plan, 2, ranking) == [0.5, 0.1]


def test_flat_and_full_need_no_ranking():
    assert block_rates(PlanConfig(kind="flat", rate=0.2), 3) == [0.2] * 3
    assert block_rates(PlanConfig(kind="full"), 3) == [0.0] * 3


def test_a_plan_that_chooses_blocks_needs_a_ranking():
    with pytest.raises(ValueError, match=r"plan\.kind=ambient needs a ranking"):
        block_rates(PlanConfig(kind="ambient"), 2)


def test_a_ranking_of_another_depth_is_refused(ranking):
    with pytest.raises(ValueError, match="got 2 of num_blocks=6"):
        block_rates(PlanConfig(kind="ambient"), 6, ranking)


def test_kept_units_are_rounded():
    # 256 units: 0.7 of them are 179.2.
    kept = kept_units(PlanConfig(kind="flat", rate=0.3), TINY)
    assert kept == [{**FULL, "feed_forward_1": 179, "feed_forward_2": 179}] * 6


def test_a_manual_plan_gives_each_block_its_rate():
    plan = PlanConfig(kind="manual", rates=(0.0, 0.25, 0.5, 0.0, 0.0, 0.75))
    kept = kept_units(plan, TINY)
    assert [units["feed_forward_1"] for units in kept] == [256, 192, 128, 256, 256, 64]


def test_a_manual_plan_of_another_length_is_refused():
    with pytest.raises(
        ValueError, match=r"plan\.rates must name every block; got 2 for num_blocks=6"
    ):
        kept_units(PlanConfig(kind="manual", rates=(0.1, 0.2)), TINY)


def test_heads_and_groups_of_channels_are_dropped_where_asked_for():
    plan = PlanConfig(kind="flat", rate=0.5, axes=("heads", "channels"))
    assert kept_units(plan, TINY) == [{**FULL, "attention": 2, "convolution": 4}] * 6


def test_channels_that_are_normalised_alone_are_dropped_alone():
    encoder = replace(TINY.encoder, conv_norm="layer")
    plan = PlanConfig(kind="flat", rate=0.25, axes=("channels",))
    kept = kept_units(plan, replace(TINY, encoder=encoder))
    assert [units["convolution"] for units in kept] == [48] * 6


def test_a_rate_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"got rate=0\.999 for block 0's feed_forward_1"):
        kept_units(PlanConfig(kind="flat", rate=0.999), TINY)
    plan = PlanConfig(kind="manual", rates=(0.0, 0.9, 0.0, 0.0, 0.0, 0.0), axes=("heads",))
    with pytest.raises(ValueError, match=r"got rate=0\.9 for block 1's attention"):
        kept_units(plan, TINY)


def test_an_axis_that_the_model_does_not_have_is_refused():
    transformer = ModelConfig(family="transformer")
    with pytest.raises(ValueError, match=r"\['ff_units'\]; got heads with family=transformer"):
        kept_units(PlanConfig(kind="flat", axes=("ff_units", "heads")), transformer)


def test_dropped_parameters_are_what_the_rates_say(ranking):
    # 2 of 6 blocks lose 128 of 256 units, 4 lose 26; a unit has 64 + 1 + 64 parameters, and a
    # block has two modules.
    scores = tuple(replace(ranking.blocks[0], blocks=(block,)) for block in range(6))
    plan = PlanConfig(kind="ambient", blocks=2, rate=0.5, base_rate=0.1)
    kept = kept_units(plan, TINY, replace(ranking, blocks=scores))
    plan = ClientPlan(units=kept)
    sizes = account(layout_without_weights(TINY), layout_without_weights(TINY, kept), plan)
    assert sizes.dropped == 2 * 129 * (2 * 128 + 4 * 26)


@pytest.mark.parametrize(
    ("chosen", "frozen", "seeded", "later"),
    [
        ("train", (), (), ()),
        ("freeze", (1,), (), ()),
        ("seed", (1,), (1,), (1,)),
        ("seed_and_train", (), (1,), ()),
    ],
)
def test_chosen_blocks_are_frozen_or_seeded(ranking, chosen, frozen, seeded, later):
    config = PlanConfig(kind="ambient", blocks=1, rate=0.0, base_rate=0.0, chosen=chosen)
    model = replace(TINY, encoder=replace(TINY.encoder, num_blocks=2))
    plan = client_plan(config, model, ranking)
    assert (plan.frozen, plan.seeded) == (frozen, seeded)
    assert later_plan(plan) == replace(plan, seeded=later)
