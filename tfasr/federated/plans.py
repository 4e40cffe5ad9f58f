"""How many units of each block's modules a client's model keeps."""

from tfasr.configs.federated import Axis, PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.models.building import full_units
from tfasr.study.ranking import Ranking

# What the units of a module are called in a plan.
AXES: dict[str, Axis] = {
    "feed_forward": "ff_units",
    "feed_forward_1": "ff_units",
    "feed_forward_2": "ff_units",
    "attention": "heads",
    "convolution": "channels",
}


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
    if ranking is None:
        raise ValueError(f"plan.kind={plan.kind} needs a ranking; run `tfasr study` first")
    if len(ranking.blocks) != num_blocks:
        raise ValueError(
            "the ranking must name every block; "
            f"got {len(ranking.blocks)} of num_blocks={num_blocks}"
        )
    choose = ranking.most_ambient if plan.kind == "ambient" else ranking.most_critical
    chosen = choose(plan.blocks)
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


def _kept(units: int, rate: float, where: str) -> int:
    kept = round(units * (1 - rate))
    if not kept:
        raise ValueError(f"a plan must leave each module a unit; got rate={rate} for {where}")
    return kept
