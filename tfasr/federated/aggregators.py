"""How the clients' updates become one."""

from collections.abc import Callable

import tensorflow_federated as tff
from dp_accounting import GaussianDpEvent, SampledWithoutReplacementDpEvent
from dp_accounting.privacy_accountant import NeighboringRelation
from dp_accounting.rdp import RdpAccountant

from tfasr.configs.federated import Aggregator, FederateConfig

QUANTISED_BITS = 8
# A smaller variable would save less than what its bounds and packing cost.
QUANTISED_FROM = 64


def make_aggregator(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    """Makes what the clients' updates go through on their way to the server's optimizer.

    All work on the updates of a round's sub-model as the clients send them: norms are of what a
    client trained, and noise falls on coordinates that were trained and on no others.
    """
    return _FACTORIES[config.aggregator](config)


def _mean(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    return tff.aggregators.MeanFactory(no_nan_division=True)


def _clipping(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    return tff.learning.robust_aggregator(zeroing=False, clipping=True)


def _zeroing(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    return tff.learning.robust_aggregator(zeroing=True, clipping=False)


def _private(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    # `tff.learning.dp_aggregator` without its zeroing, whose quantile is estimated without noise
    # and not covered by epsilon; and for few clients too, where its noise on the count of clipped
    # updates would alone give away more than is asked for.
    private = tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
        config.dp_noise,
        config.clients_per_round,
        clipped_count_stddev=max(0.05 * config.clients_per_round, config.dp_noise),
    )
    return tff.aggregators.as_weighted_aggregator(private)


def _quantised(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    # Rounded to the nearest step: by lot, as is the default, no run would repeat, for the lots
    # are drawn from no seed of ours.
    packed = tff.aggregators.EncodedSumFactory.quantize_above_threshold(
        QUANTISED_BITS, QUANTISED_FROM, stochastic=False
    )
    return tff.aggregators.MeanFactory(packed, no_nan_division=True)


def _secure(config: FederateConfig) -> tff.aggregators.WeightedAggregationFactory:
    return tff.learning.secure_aggregator(zeroing=False, clipping=False)


_FACTORIES: dict[
    Aggregator, Callable[[FederateConfig], tff.aggregators.WeightedAggregationFactory]
] = {
    "mean": _mean,
    "clipping": _clipping,
    "zeroing": _zeroing,
    "dp": _private,
    "quantised": _quantised,
    "secure": _secure,
}


def epsilon(config: FederateConfig, population: int) -> float:
    """Computes what "dp" gives: how much an adversary may learn of one client.

    Neighbouring populations differ in one client that is replaced by another, which moves a
    round's sum by up to twice the clipping norm.

    Args:
        config: Noise, clients in a round, rounds and delta.
        population: Clients that each round draws from, without replacement.

    Returns:
        epsilon at `config.dp_delta`.

    Raises:
        ValueError: There are fewer clients than a round wants: the noise would not be that which
            was asked for.

    Source: Wang, Balle & Kasiviswanathan (2019), "Subsampled Renyi Differential Privacy and
        Analytical Moments Accountant", theorem 27.
    """
    if population < config.clients_per_round:
        raise ValueError(
            "clients_per_round must not exceed the clients, for aggregator=dp scales its noise to "
            f"it; got clients_per_round={config.clients_per_round} of {population} clients"
        )
    accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    one_round = SampledWithoutReplacementDpEvent(
        population, config.clients_per_round, GaussianDpEvent(config.dp_noise / 2)
    )
    accountant.compose(one_round, config.rounds)
    return float(accountant.get_epsilon(config.dp_delta))
