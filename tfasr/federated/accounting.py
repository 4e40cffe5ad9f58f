"""What a client's model saves: counted from its variables, and measured."""

import math
from dataclasses import asdict, dataclass

from tfasr.configs.federated import Aggregator
from tfasr.federated.aggregators import QUANTISED_BITS, QUANTISED_FROM
from tfasr.federated.plans import ClientPlan
from tfasr.federated.seeding import BYTES_OF_A_SEED
from tfasr.models.layout import Entry, Layout

FLOAT_BYTES = 4
# Of the integers that TFF makes of floats for a secure sum.
SECURE_BYTES = 8
# Which draw of units a client has, where it must know it: to slice what it makes of a seed, and to
# tell whose sub-model its update is of.
DRAW_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Account:
    """Sizes of the full and the client's model, and of a client's traffic in one round.

    Args:
        parameters_full: Parameters of the server's model.
        parameters_client: Parameters of a client's model.
        parameters_down: Those of them that it is sent as such, not as seeds.
        parameters_trained: Those that it trains and returns.
        bytes_down: What a client receives: its weights, in float32, but for blocks that travel
            as seeds.
        bytes_up: What it returns: its update and the update's weight. Sums of loss and
            utterances, a dozen bytes more, are not counted. Secure sums' integers of 32 bits
            travel in 64.
    """

    parameters_full: int
    parameters_client: int
    parameters_down: int
    parameters_trained: int
    bytes_down: int
    bytes_up: int

    @property
    def dropped(self) -> int:
        """Parameters that a client does without."""
        return self.parameters_full - self.parameters_client

    @property
    def dropped_share(self) -> float:
        """Their share of all parameters, subsampling and head included."""
        return self.dropped / self.parameters_full

    def to_json(self) -> dict[str, float]:
        """Returns a JSON object."""
        shares = {"dropped": self.dropped, "dropped_share": self.dropped_share}
        return {**asdict(self), **shares}


@dataclass(frozen=True, kw_only=True)
class ClientCost:
    """What a client's share of a round takes.

    Args:
        client: Whose utterances: of the one that speaks most.
        client_steps: That were made.
        client_peak_bytes: By how much the process grew, at most, beyond one that has loaded
            TensorFlow and nothing else: features, sub-model, activations, gradients, and what
            it takes to build the graph of a step.
        client_step_seconds: Median of the steps but the first, which builds the graph; on one
            thread, features included.
    """

    client: str
    client_steps: int
    client_peak_bytes: int
    client_step_seconds: float

    def to_row(self) -> dict[str, float]:
        """Returns what a round's line in the log has of it."""
        return {
            "client_peak_bytes": self.client_peak_bytes,
            "client_step_seconds": self.client_step_seconds,
        }


def account(
    full: Layout, client: Layout, plan: ClientPlan, aggregator: Aggregator = "mean"
) -> Account:
    """Counts a plan's cost.

    Args:
        full: The server's model.
        client: A client's model.
        plan: What of it travels.
        aggregator: By which updates come back.
    """
    down = BYTES_OF_A_SEED * len(plan.seeded)
    down += DRAW_BYTES * (bool(plan.seeded) or plan.groups > 1)
    up = FLOAT_BYTES + DRAW_BYTES * (plan.groups > 1)
    sent = sum(entry.size for entry in client if entry.block not in plan.seeded)
    returned = [entry for entry in client if entry.block not in plan.frozen]
    return Account(
        parameters_full=full.parameters(),
        parameters_client=client.parameters(),
        parameters_down=sent,
        parameters_trained=sum(entry.size for entry in returned),
        bytes_down=FLOAT_BYTES * sent + down,
        bytes_up=up + sum(_bytes_up(entry, aggregator) for entry in returned),
    )


def _bytes_up(entry: Entry, aggregator: Aggregator) -> int:
    if aggregator == "secure":
        return SECURE_BYTES * entry.size
    if aggregator != "quantised" or entry.size <= QUANTISED_FROM:
        return FLOAT_BYTES * entry.size
    # The least and the greatest, then all, packed into the 28 bits that are used of an int32.
    return FLOAT_BYTES * (2 + math.ceil(QUANTISED_BITS * entry.size / 28))
