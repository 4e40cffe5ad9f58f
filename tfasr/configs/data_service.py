"""Batches made on other hosts."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DataServiceConfig:
    """One process of a tf.data service: one dispatcher, and a worker or more on any host.

    Training names the dispatcher with `--batching.service HOST:PORT`. The workers read the
    prepared shards, so these must lie under the same path on every host.

    Args:
        role: What this process is.
        port: That it listens on; 0 takes a free one, which it prints.
        dispatcher: For a worker: host and port of the dispatcher.
        host: For a worker: the name under which training reaches this host.
    """

    role: Literal["dispatcher", "worker"]
    port: int = 0
    dispatcher: str = ""
    host: str = "localhost"

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be 0 to 65535; got port={self.port}")
        host, _, port = self.dispatcher.rpartition(":")
        if self.dispatcher and not (host and port.isdecimal()):
            raise ValueError(f"dispatcher must be HOST:PORT; got dispatcher={self.dispatcher!r}")
        if (self.role == "worker") != bool(self.dispatcher):
            raise ValueError(
                "a worker needs --dispatcher HOST:PORT, and a dispatcher takes none; "
                f"got role={self.role}, dispatcher={self.dispatcher!r}"
            )
