"""Ports that a stage listens on."""

import socket


def require_free(port: int) -> None:
    """Refuses a port that another process has: TensorFlow and gRPC would share it with that.

    Args:
        port: The port; 0, which stands for any that is free, always is.

    Raises:
        ValueError: It is taken.
    """
    with socket.socket() as trial:
        try:
            trial.bind(("", port))
        except OSError as error:
            raise ValueError(f"port must be free; got port={port}: {error.strerror}") from None
