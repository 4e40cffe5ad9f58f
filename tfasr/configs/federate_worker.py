"""A process that computes clients of federated rounds."""

from dataclasses import dataclass


def require_address(name: str, address: str) -> None:
    """Refuses what is no HOST:PORT.

    Args:
        name: Of the setting.
        address: Its value, or one of them.

    Raises:
        ValueError: It is none.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{name} must be HOST:PORT; got {name}={address!r}")


@dataclass(frozen=True, kw_only=True)
class FederateWorkerConfig:
    """One of TensorFlow Federated's workers; `tfasr federate --workers` names all of them.

    One a host is enough: it computes as many clients at a time as the host has cores. It reads
    the clients' files, so the folder OUT/clients of `tfasr federate --out OUT` must lie under the
    same path on every host. Its channel is not encrypted, and whoever reaches its port can run
    any TensorFlow graph there: let no one but the host of `tfasr federate` reach it.

    Args:
        port: That it listens on, at every address of the host; 0 takes a free one, which it
            prints.
    """

    port: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be 0 to 65535; got port={self.port}")
