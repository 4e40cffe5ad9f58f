"""Who the clients of federated training are, and how a round fares with them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ClientsConfig:
    """How utterances are dealt to clients, and clients to rounds.

    Args:
        by: Whose utterances one client has. "speaker": a speaker's. "domain": those recorded in
            one domain. "dirichlet": of `count` clients, all equally large, a mixture of domains
            each, drawn from a Dirichlet distribution about the mixture of them all. "size":
            `size` utterances drawn from all, so that clients are alike; what is left over at the
            end, fewer than `size`, is nobody's.
        count: With "dirichlet", how many clients.
        concentration: With "dirichlet", of the distribution: well under 1, most clients have one
            domain; at 100, all have nearly the same mixture.
        size: With "size", utterances of a client.
        sampling: How a round draws its clients, without replacement: "uniform", or "weighted" by
            their utterances. Updates count by utterances in either case.
        dropout_share: Probability that a client that was drawn and sent its model does not
            answer, in [0, 1). Its update has no weight; a round in which nobody answers leaves
            the model as it was.
        straggler_share: Probability that a client is a slow one, in [0, 1]. Such a client stops
            after a number of steps of its own, the same in every round, drawn evenly from 1 to
            one less than the others may make.
    """

    by: Literal["speaker", "domain", "dirichlet", "size"] = "speaker"
    count: int = 20
    concentration: float = 0.5
    size: int = 50
    sampling: Literal["uniform", "weighted"] = "uniform"
    dropout_share: float = 0.0
    straggler_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("count", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        if not 1e-6 <= self.concentration <= 1e6:
            raise ValueError(
                f"concentration must be in [1e-6, 1e6]; got concentration={self.concentration}"
            )
        if not 0 <= self.dropout_share < 1:
            raise ValueError(
                f"dropout_share must be in [0, 1); got dropout_share={self.dropout_share}"
            )
        if not 0 <= self.straggler_share <= 1:
            raise ValueError(
                f"straggler_share must be in [0, 1]; got straggler_share={self.straggler_share}"
            )
