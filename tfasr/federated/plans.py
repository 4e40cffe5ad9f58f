"""What a client's model keeps of each block, and what of it travels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfasr.configs.federated import Axis, PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.federated.budget import (
    Droppable,
    Spending,
    cautious_penalties,
    droppable,
    most_parameters,
    spend,
    spend_evenly,
)
from tfasr.models.building import Units, full_units
from tfasr.study.ranking import Ranking

# What the units of a module are called in a plan.
AXES: dict[str, Axis] = {
    "feed_forward": "ff_units",
    "feed_forward_1": "ff_units",
    "feed_forward_2": "ff_units",
    "attention": "heads",
    "convolution": "channels",
}


@dataclass(frozen=True, kw_only=True)
class ClientPlan:
    """What a client's model is, and what of it travels.

    Args:
        units: That the modules of each block keep, [L] by module.
        frozen: Blocks that a client neither trains nor sends back.
        seeded: Blocks that travel to a client as the seed that they were drawn from.
        groups: Sub-models in a round.
    """

    units: Units
    frozen: tuple[int, ...] = ()
    seeded: tuple[int, ...] = ()
    groups: int = 1

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        return {
            "units": [dict(units) for units in self.units],
            "frozen": list(self.frozen),
            "seeded": list(self.seeded),
            "groups": self.groups,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ClientPlan":
        """Reads what `to_json` returned."""
        blocks = {name: tuple(value[name]) for name in ("frozen", "seeded")}
        return cls(units=value["units"], groups=value["groups"], **blocks)


def client_plan(
    plan: PlanConfig, config: ModelConfig, ranking: Ranking | None = None
) -> ClientPlan:
    """Works out a plan for a model, as it is in the first round.

    Args:
        plan: The plan.
        config: The full model.
        ranking: Of its blocks, where the plan chooses some.

    Returns:
        The client's model.

    Raises:
        ValueError: As `kept_units`.
    """
    units = kept_units(plan, config, ranking)
    chosen: tuple[int, ...] = ()
    if ranking and plan.chosen != "train":
        chosen = tuple(sorted(_chosen(plan, ranking)))
    return ClientPlan(
        units=units,
        frozen=chosen if plan.chosen in ("freeze", "seed") else (),
        seeded=chosen if plan.chosen in ("seed", "seed_and_train") else (),
        groups=plan.groups,
    )


def later_plan(plan: ClientPlan) -> ClientPlan:
    """The plan of all rounds but the first: what was trained is no more what a seed gives."""
    seeded = tuple(block for block in plan.seeded if block in plan.frozen)
    return replace(plan, seeded=seeded)


def block_rates(plan: PlanConfig, num_blocks: int, ranking: Ranking | None = None) -> list[float]:
    """Computes the share of units that each block leaves out.

    Args:
        plan: The plan.
        num_blocks: Blocks L of the model.
        ranking: Of those blocks; plans that choose no blocks need none.

    Returns:
        [L] rates.

    Raises:
        ValueError: The plan chooses blocks and there is no ranking, or one of another number
            of blocks; or it is manual and has another number of rates.
    """
    if plan.kind == "full":
        return [0.0] * num_blocks
    if plan.kind == "manual":
        if len(plan.rates) != num_blocks:
            raise ValueError(
                "plan.rates must name every block; "
                f"got {len(plan.rates)} for num_blocks={num_blocks}"
            )
        return list(plan.rates)
    if plan.kind == "flat":
        return [plan.rate] * num_blocks
    chosen = _chosen(plan, _required(plan, num_blocks, ranking))
    return [plan.rate if block in chosen else plan.base_rate for block in range(num_blocks)]


def kept_units(
    plan: PlanConfig, config: ModelConfig, ranking: Ranking | None = None
) -> list[dict[str, int]]:
    """Computes the units that the modules of each block keep.

    Args:
        plan: The plan.
        config: The full model.
        ranking: Of its blocks, where the plan chooses some.

    Returns:
        [L] units by module, as `build_model` takes them.

    Raises:
        ValueError: As `block_rates`; or the model has no such axis; or a rate leaves a module
            without a unit.
    """
    full = full_units(config)
    axes = {module: AXES[module] for block in full for module in block}
    if missing := [axis for axis in plan.axes if axis not in axes.values()]:
        raise ValueError(
            f"plan.axes must be among those of the model, {sorted(set(axes.values()))}; "
            f"got {missing[0]} with family={config.family}"
        )
    if plan.kind == "budget":
        return _affordable(plan, config, ranking)
    rates = block_rates(plan, config.num_blocks, ranking)
    return [
        {
            module: _kept(units, rate, f"block {block}'s {module}")
            if axes[module] in plan.axes
            else units
            for module, units in modules.items()
        }
        for block, (modules, rate) in enumerate(zip(full, rates, strict=True))
    ]


def budget_spendings(
    plan: PlanConfig, model: Droppable, ranking: Ranking | None
) -> tuple[Spending, Spending]:
    """Spends a plan's budget by a ranking, and evenly.

    Args:
        plan: Of the kind "budget".
        model: What there is to drop of the plan's axes.
        ranking: Of its blocks.

    Returns:
        The rates that lose least, and the one rate of all blocks at the same budget.

    Raises:
        ValueError: There is no ranking, or one of another number of blocks or without intervals;
            or the budget is too small.
    """
    penalties = cautious_penalties(_required(plan, len(model.units), ranking))
    most = most_parameters(plan)
    return spend(model, penalties, most), spend_evenly(model, penalties, most)


def _affordable(
    plan: PlanConfig, config: ModelConfig, ranking: Ranking | None
) -> list[dict[str, int]]:
    model = droppable(config, [module for module, axis in AXES.items() if axis in plan.axes])
    best, _ = budget_spendings(plan, model, ranking)
    return [
        {**units, **{module: model.kept(rate, count) for module, count in some.items()}}
        for units, some, rate in zip(full_units(config), model.units, best.rates, strict=True)
    ]


def _required(plan: PlanConfig, num_blocks: int, ranking: Ranking | None) -> Ranking:
    if ranking is None:
        raise ValueError(f"plan.kind={plan.kind} needs a ranking; run `tfasr study` first")
    if len(ranking.blocks) != num_blocks:
        raise ValueError(
            "the ranking must name every block; "
            f"got {len(ranking.blocks)} of num_blocks={num_blocks}"
        )
    return ranking


def _chosen(plan: PlanConfig, ranking: Ranking) -> tuple[int, ...]:
    choose = ranking.most_ambient if plan.kind == "ambient" else ranking.most_critical
    return choose(plan.blocks)


def _kept(units: int, rate: float, where: str) -> int:
    kept = round(units * (1 - rate))
    if not kept:
        raise ValueError(f"a plan must leave each module a unit; got rate={rate} for {where}")
    return kept
