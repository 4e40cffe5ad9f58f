"""How many feed-forward units of each block a client's model keeps."""

from tfasr.configs.federated import PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.models.building import full_ff_units
from tfasr.study.ranking import Ranking


def block_rates(plan: PlanConfig, num_blocks: int, ranking: Ranking | None = None) -> list[float]:
    """Computes the share of inner units that each block leaves out.

    Args:
        plan: The plan.
        num_blocks: Blocks L of the model.
        ranking: Of those blocks; plans that choose no blocks need none.

    Returns:
        [L] rates.

    Raises:
        ValueError: The plan chooses blocks and there is no ranking, or one of another number
            of blocks.
    """
    if plan.kind == "full":
        return [0.0] * num_blocks
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
) -> list[tuple[int, int]]:
    """Computes the inner units that the two feed-forward modules of each block keep.

    Args:
        plan: The plan.
        config: The full model.
        ranking: Of its blocks, where the plan chooses some.

    Returns:
        [L] pairs, as `build_model` takes them; never less than 1 unit.

    Raises:
        ValueError: As `block_rates`.
    """
    rates = block_rates(plan, config.encoder.num_blocks, ranking)
    return [
        (_kept(first, rate), _kept(second, rate))
        for (first, second), rate in zip(full_ff_units(config), rates, strict=True)
    ]


def _kept(units: int, rate: float) -> int:
    return max(1, round(units * (1 - rate)))
