"""Whom the rounds helped and whom they harmed: error rates client by client."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfasr.evaluation.error_rates import count_word_errors
from tfasr.evaluation.transcription import Hypothesis

QUARTILES = ("lowest", "lower quartile", "median", "upper quartile", "highest")


@dataclass(frozen=True, kw_only=True)
class ClientRates:
    """Word error rates on one client's validation utterances, as shares.

    Args:
        client: Who.
        words: That it said there.
        before: Of the model that the rounds began with.
        after: Of the best round's.
    """

    client: str
    words: int
    before: float
    after: float


@dataclass(frozen=True)
class Personalisation:
    """Error rates of all clients that have validation utterances.

    Args:
        rates: Of each, by name.
        without: Clients that have no validation utterance.
    """

    rates: Sequence[ClientRates]
    without: Sequence[str]

    @property
    def worst(self) -> ClientRates:
        """The client with the highest rate after."""
        return max(self.rates, key=lambda rates: rates.after)

    @property
    def most_harmed(self) -> ClientRates:
        """The client whose rate rose most, or fell least."""
        return max(self.rates, key=lambda rates: rates.after - rates.before)

    def quartiles(self) -> dict[str, list[float]]:
        """Of "before", "after" and their "change" by client, `QUARTILES`; clients weigh alike."""
        before, after = (
            np.array([getattr(rates, name) for rates in self.rates]) for name in ("before", "after")
        )
        return {
            "before": _quartiles(before),
            "after": _quartiles(after),
            "change": _quartiles(after - before),
        }

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        changes = [rates.after - rates.before for rates in self.rates]
        return {
            "quartiles": {
                name: dict(zip(QUARTILES, values, strict=True))
                for name, values in self.quartiles().items()
            },
            "mean": {
                name: float(np.mean([getattr(rates, name) for rates in self.rates]))
                for name in ("before", "after")
            },
            "better": sum(change < 0 for change in changes),
            "worse": sum(change > 0 for change in changes),
            "worst": self.worst.client,
            "most_harmed": self.most_harmed.client,
            "without_validation_utterances": list(self.without),
            "clients": [asdict(rates) for rates in self.rates],
        }


def _quartiles(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]


def personalisation(
    before: Sequence[Hypothesis],
    after: Sequence[Hypothesis],
    clients: Sequence[str],
    by: str,
) -> Personalisation:
    """Sorts two models' hypotheses of the same utterances by client.

    Args:
        before: Of the model that the rounds began with.
        after: Of the best round's, in the same order.
        clients: Names of all clients.
        by: What a client's name is of a hypothesis: its "speaker" or "domain".

    Raises:
        ValueError: No client said a word of the validation utterances.
    """
    owners = np.array([getattr(hypothesis, by) for hypothesis in before])
    counts = [
        count_word_errors([h.reference for h in heard], [h.text for h in heard])
        for heard in (before, after)
    ]
    rates = []
    for client in sorted(clients):
        mine = owners == client
        words = int(counts[0].length[mine].sum())
        if words:
            shares = [float(count.errors[mine].sum() / words) for count in counts]
            rates.append(ClientRates(client=client, words=words, before=shares[0], after=shares[1]))
    if not rates:
        raise ValueError(
            "some client must have validation utterances for per_client; got none of "
            f"{len(clients)}. Prepare data whose clients are in the validation split too, or "
            "leave per_client out"
        )
    found = {row.client for row in rates}
    return Personalisation(rates, [client for client in sorted(clients) if client not in found])
