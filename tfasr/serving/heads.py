"""Connections that send no request, or send one drop by drop."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_for(head_seconds: float) -> type[asyncio.Protocol]:
    """Makes the protocol of connections that must send the head of a request in some time.

    Uvicorn itself waits for ever for the first request of a connection, and for the rest of a
    head that has begun.

    Args:
        head_seconds: The time, in seconds, from the connection or from the head's first byte.
    """

    class TimedProtocol(H11Protocol):
        """Closes what is too slow."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_watch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._end_watch()
            elif self._timer is None:
                self._timer = self.loop.call_later(head_seconds, self._close)

        def _end_watch(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _close(self) -> None:
            self._timer = None
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

    return TimedProtocol
