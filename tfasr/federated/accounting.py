"""What a client's model saves, counted from its variables."""

from dataclasses import asdict, dataclass

from tfasr.models.layout import Layout

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Account:
    """Sizes of the full and the client's model, and of a client's traffic in one round.

    Args:
        parameters_full: Parameters of the server's model.
        parameters_client: Parameters that a client receives, trains and returns.
        bytes_down: What a client receives: its weights, in float32.
        bytes_up: What it returns: its update and the update's weight. Sums of loss and
            utterances, a dozen bytes more, are not counted.
    """

    parameters_full: int
    parameters_client: int
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


def account(full: Layout, client: Layout) -> Account:
    """Counts a plan's cost.

    Args:
        full: The server's model.
        client: A client's model.
    """
    parameters = client.parameters()
    return Account(
        parameters_full=full.parameters(),
        parameters_client=parameters,
        bytes_down=FLOAT_BYTES * parameters,
        bytes_up=FLOAT_BYTES * (parameters + 1),
    )
