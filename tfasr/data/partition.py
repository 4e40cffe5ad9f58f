"""Which client has which utterance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfasr.configs.clients import ClientsConfig
from tfasr.configs.seeds import counted_generator

NOBODY = ""


@dataclass(frozen=True)
class Spoken:
    """What is known of an utterance before it is dealt to a client."""

    speaker: str
    domain: str


def deal(utterances: Sequence[Spoken], config: ClientsConfig, seed: int) -> list[str]:
    """Names the client of every utterance.

    Args:
        utterances: All that are to be dealt.
        config: How.
        seed: The run's; decides what is drawn.

    Returns:
        Of each utterance its client, or `NOBODY`.

    Raises:
        ValueError: An utterance has no speaker or domain to go by, or there are too few
            utterances for the clients asked for.
    """
    if config.by == "dirichlet":
        return _mixtures(utterances, config, seed)
    if config.by == "size":
        return _alike(len(utterances), config.size, seed)
    names = [getattr(utterance, config.by) for utterance in utterances]
    if missing := names.count(""):
        raise ValueError(
            f"with clients.by={config.by} every utterance must name its {config.by}; "
            f"got {missing} of {len(names)} that name none"
        )
    return names


def _mixtures(utterances: Sequence[Spoken], config: ClientsConfig, seed: int) -> list[str]:
    """Deals each client as many utterances, of a mixture of domains of its own.

    Where a domain is exhausted, what a client still lacks is drawn from the others.

    Source: Hsu, Qi & Brown (2019), "Measuring the Effects of Non-Identical Data Distribution for
    Federated Visual Classification", section 3, with domains for classes.
    """
    if len(utterances) < config.count:
        raise ValueError(
            f"clients.count={config.count} must not exceed the utterances; got {len(utterances)}"
        )
    present = sorted({utterance.domain for utterance in utterances})
    spoken = np.array([present.index(utterance.domain) for utterance in utterances])
    left = np.bincount(spoken)  # [domains]
    generator = counted_generator(seed, "client_deal")
    shuffled = [generator.permutation(np.flatnonzero(spoken == d)) for d in range(len(present))]
    prior = left / left.sum()
    names = [NOBODY] * len(utterances)
    for client in range(config.count):
        size = len(utterances) // config.count + (client < len(utterances) % config.count)
        mixture = _dirichlet(generator, config.concentration * prior)
        counts = _counts(generator, mixture, left, size)
        for places, end, count in zip(shuffled, left, counts, strict=True):
            for place in places[end - count : end]:
                names[place] = f"mixture-{client:05d}"
        left = left - counts
    return names


def _dirichlet(
    generator: np.random.Generator, concentrations: NDArray[np.float64]
) -> NDArray[np.float64]:
    # As gamma draws, in logarithms: NumPy's own does not end where concentrations are tiny.
    gammas = np.log(generator.standard_gamma(concentrations + 1))
    gammas -= generator.standard_exponential(len(concentrations)) / concentrations
    shares = np.exp(gammas - gammas.max())
    return np.asarray(shares / shares.sum())


def _counts(
    generator: np.random.Generator,
    mixture: NDArray[np.float64],
    left: NDArray[np.int64],
    size: int,
) -> NDArray[np.int64]:
    """Draws how many utterances of each domain, of those left, make a client of a size."""
    counts = np.zeros_like(left)
    while missing := size - int(counts.sum()):
        shares = np.where(counts < left, mixture, 0.0)
        if not shares.sum() > 0:
            shares = (left - counts).astype(np.float64)
        drawn = generator.multinomial(missing, shares / shares.sum())
        counts = np.minimum(counts + drawn, left)
    return counts


def _alike(utterances: int, size: int, seed: int) -> list[str]:
    if utterances < size:
        raise ValueError(
            f"a client's clients.size={size} must not exceed the utterances; got {utterances}"
        )
    places = counted_generator(seed, "client_deal").permutation(utterances)
    clients = utterances // size
    names = [NOBODY] * utterances
    for dealt, place in enumerate(places[: clients * size]):
        names[place] = f"part-{dealt // size:05d}"
    return names
