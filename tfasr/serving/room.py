"""How much a server may hold at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tfasr.serving.errors import Overloaded


class Room:
    """Counts something of which there may be only so much at a time.

    Args:
        limit: How much there may be.
        what: What is counted, in the words of a refusal, such as "utterances".
        retry_seconds: Tells how long it may take for some room, in seconds.
    """

    def __init__(self, limit: int, what: str, retry_seconds: Callable[[], float]) -> None:
        self.limit = limit
        self.used = 0
        self._what = what
        self._retry_seconds = retry_seconds

    @contextmanager
    def held(self, amount: int = 0) -> Iterator["Hold"]:
        """Takes room for as long as the block lasts.

        Raises:
            Overloaded: There is not so much left.
        """
        hold = Hold(self)
        try:
            hold.grow(amount)
            yield hold
        finally:
            self.used -= hold.amount

    def refuse_beyond(self, amount: int) -> None:
        """Raises `Overloaded` where so much more has no room."""
        if self.used + amount > self.limit:
            raise Overloaded(
                f"the server is full: it holds {self.used} of {self.limit} {self._what}; "
                "try again later",
                retry_seconds=self._retry_seconds(),
            )


class Hold:
    """Room that is taken bit by bit, and given back at once."""

    def __init__(self, room: Room) -> None:
        self.amount = 0
        self._room = room

    def grow(self, amount: int) -> None:
        """Takes more.

        Raises:
            Overloaded: There is not so much left.
        """
        self._room.refuse_beyond(amount)
        self._room.used += amount
        self.amount += amount
