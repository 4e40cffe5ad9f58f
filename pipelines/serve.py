"""`tfasr serve`: an exported model behind TensorFlow Serving's REST interface."""

from tfasr.configs.serving import ServeConfig
from tfasr.serving.server import serve


def run(config: ServeConfig) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        ValueError: The model can't be loaded, or the port not be taken.
    """
    serve(config)
