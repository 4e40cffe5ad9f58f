"""Why something that is good in itself gets no answer."""

import math


class Overloaded(RuntimeError):
    """The server has too much to do; one line says of what.

    Args:
        reason: The line.
        retry_seconds: When to come again, in seconds.
    """

    def __init__(self, reason: str, *, retry_seconds: float) -> None:
        super().__init__(reason)
        self.retry_after = min(max(math.ceil(retry_seconds), 1), 60)


class ServerError(ConnectionError):
    """The server can't be reached, or fails on whatever it is asked; one line says why."""


class Late(TimeoutError):
    """The answer did not come in time; one line says in what time."""
