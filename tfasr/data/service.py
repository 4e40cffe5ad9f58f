"""The tf.data service that makes batches on other hosts."""

import socket

_PATIENCE = 10.0  # Seconds; TensorFlow itself would wait for a dispatcher for ever.


def require_dispatcher(address: str) -> None:
    """Says that a dispatcher can't be reached, before TensorFlow waits for it.

    Args:
        address: HOST:PORT.

    Raises:
        ValueError: Nobody answers there.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"the dispatcher must answer; got {address}: {error}. Start it with "
            "`tfasr data-service --role dispatcher`"
        ) from None
