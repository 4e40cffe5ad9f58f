"""`tfasr serve`: an exported model over REST, gRPC and WebSocket, with a web page."""

from pipelines.threads import take_one_thread_an_operation
from tfasr.configs.serving import ServeConfig
from tfasr.serving.server import serve


def run(config: ServeConfig) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        ValueError: The model can't be loaded, or the port not be taken.
    """
    if config.gathering.one_thread:
        take_one_thread_an_operation()
    serve(config)
