"""Rates of blocks that lose least where a client may have only so much."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfasr.configs.federated import PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.models.building import Units, full_units
from tfasr.models.layout import layout_without_weights
from tfasr.study.ranking import Ranking

# What a parameter of a client's model costs: four bytes down and four up; and four bytes each for
# the weight, what it was before the round, and its gradient. Activations are not counted: they
# shrink with inner units too, but depend on the batch.
BYTES_SENT = 8
BYTES_HELD = 12
# Beyond it a block is hardly there, and a penalty measured by its reset says most of what is lost.
LARGEST_RATE = 0.9
# A block that can be reset for nothing, or to the better, still may not cost nothing.
SMALLEST_PENALTY = 1e-4
_HALVINGS = 60


@dataclass(frozen=True)
class Spending:
    """A share of units left out of each block, and what it comes to.

    Args:
        rates: [L] shares.
        parameters: Of the client's model.
        loss: Expected rise of the word error rate; see `spend`.
    """

    rates: tuple[float, ...]
    parameters: int
    loss: float


@dataclass(frozen=True)
class Droppable:
    """What a model would save without some units.

    Args:
        parameters: Of the full model.
        units: Of each block's modules that a plan drops from, [L] by module.
        sizes: Parameters of one of these units, likewise.
    """

    parameters: int
    units: Units
    sizes: Units

    def kept(self, rate: float, units: int) -> int:
        """Units that a module keeps: whole ones, and one at least."""
        return max(1, round(units * (1 - rate)))

    def left(self, rates: Sequence[float]) -> int:
        """Parameters of a client's model."""
        dropped = sum(
            (units[module] - self.kept(rate, units[module])) * size
            for rate, units, sizes in zip(rates, self.units, self.sizes, strict=True)
            for module, size in sizes.items()
        )
        return self.parameters - dropped


def droppable(config: ModelConfig, modules: Sequence[str]) -> Droppable:
    """Counts what units cost, from the model's variables.

    Args:
        config: The full model.
        modules: Those that a plan drops from.
    """
    layout = layout_without_weights(config)
    units = [
        {module: count for module, count in block.items() if module in modules}
        for block in full_units(config)
    ]
    sizes = [
        {
            module: sum(e.size for e in layout.of_block(block, module) if e.unit_axis) // count
            for module, count in counts.items()
        }
        for block, counts in enumerate(units)
    ]
    return Droppable(layout.parameters(), units, sizes)


def most_parameters(plan: PlanConfig) -> int:
    """Parameters that a plan's budget pays for."""
    match plan.budget_of:
        case "bytes":
            # The weight of the update goes up with it.
            return int((plan.budget - 4) // BYTES_SENT)
        case "memory":
            return int(plan.budget // BYTES_HELD)
    return int(plan.budget / plan.seconds_per_parameter)


def spend(model: Droppable, penalties: Sequence[float], most: int) -> Spending:
    """Finds rates that lose least.

    Assumed is that a block without a share r of its units costs r^2 of what its reset does, the
    loss being smooth about r = 0, and that blocks' costs add up. Then each rate is in proportion
    to the parameters that it saves by the block's penalty, up to `LARGEST_RATE`; how large, is
    sought by halving, with units counted whole.

    Args:
        model: What there is to drop.
        penalties: Rise of the word error rate when a block is reset, [L].
        most: Parameters of a client's model.

    Returns:
        The rates; all 0 where the full model fits.

    Raises:
        ValueError: Not even the largest rate everywhere is enough.
    """
    worth = [
        sum(units[module] * size for module, size in sizes.items()) / max(penalty, SMALLEST_PENALTY)
        for units, sizes, penalty in zip(model.units, model.sizes, penalties, strict=True)
    ]
    largest = max(worth)
    return _fitting(
        model,
        penalties,
        most,
        lambda price: [min(LARGEST_RATE, price * each / largest) for each in worth],
    )


def spend_evenly(model: Droppable, penalties: Sequence[float], most: int) -> Spending:
    """Finds the one rate of all blocks that the same budget asks for; as `spend`."""
    return _fitting(
        model, penalties, most, lambda price: [min(LARGEST_RATE, price)] * len(penalties)
    )


def _fitting(
    model: Droppable,
    penalties: Sequence[float],
    most: int,
    rates_at: Callable[[float], list[float]],
) -> Spending:
    low, high = 0.0, 1.0
    while model.left(rates_at(high)) > most:
        if min(rates_at(high)) >= LARGEST_RATE:
            raise ValueError(
                f"plan.budget must pay for {model.left(rates_at(high)):,} parameters, "
                f"{LARGEST_RATE:.0%} of every block's units left out; it pays for {most:,}"
            )
        high *= 2
    if model.left(rates_at(0.0)) <= most:
        high = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if model.left(rates_at(middle)) <= most:
            high = middle
        else:
            low = middle
    rates = rates_at(high)
    loss = sum(
        max(penalty, SMALLEST_PENALTY) * rate**2
        for rate, penalty in zip(rates, penalties, strict=True)
    )
    return Spending(tuple(rates), model.left(rates), loss)


def cautious_penalties(ranking: Ranking) -> list[float]:
    """The upper ends of the blocks' intervals: what is not known counts as harm.

    Raises:
        ValueError: The ranking is by a signal, which has no intervals.
    """
    scores = sorted(ranking.blocks, key=lambda score: score.blocks)
    ends = [score.interval[1] for score in scores if score.interval is not None]
    if len(ends) < len(scores):
        raise ValueError(
            f"plan.kind=budget needs the penalties of resets; got a ranking by {ranking.method}"
        )
    return ends
