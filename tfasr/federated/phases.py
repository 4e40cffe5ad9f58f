"""Stretches of rounds that are run by one process."""

from dataclasses import dataclass

import tensorflow_federated as tff

from tfasr.configs.federated import FederateConfig
from tfasr.configs.model import ModelConfig
from tfasr.federated.accounting import Account, ClientCost, account
from tfasr.federated.plans import ClientPlan, later_plan
from tfasr.federated.process import build_process
from tfasr.federated.transport import check_counted
from tfasr.models.layout import layout_without_weights


@dataclass(frozen=True)
class Phase:
    """A stretch of rounds.

    Args:
        first: Rounds done before it.
        plan: What a client's model is, and what of it travels.
        process: That runs a round.
        sizes: Of a client's model and its traffic.
        cost: Measured at a client; None where it was not.
    """

    first: int
    plan: ClientPlan
    process: tff.learning.templates.LearningProcess
    sizes: Account
    cost: ClientCost | None = None


def build_phases(model: ModelConfig, plan: ClientPlan, config: FederateConfig) -> list[Phase]:
    """Builds the phases of a run: one, or two where what travels as a seed at first is trained.

    Args:
        model: The full model.
        plan: In the first round.
        config: Of the run.

    Raises:
        ValueError: As `build_process` and `check_counted`.
    """
    later = later_plan(plan)
    plans = {0: plan} if later == plan else {0: plan, 1: later}
    full = layout_without_weights(model)
    phases = []
    for first, each in plans.items():
        process = build_process(model, each, config)
        sizes = account(full, layout_without_weights(model, each.units), each, config.aggregator)
        check_counted(process, sizes)
        phases.append(Phase(first, each, process, sizes))
    return phases
