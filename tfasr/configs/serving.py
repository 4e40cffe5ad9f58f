"""How an exported model is served, and how files are transcribed."""

import re
from dataclasses import dataclass
from pathlib import Path

MODEL_URL = re.compile(r"https?://[^/\s?#]+/v1/models/[^/:\s?#]+(/versions/\d+)?")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """One model behind TensorFlow Serving's REST interface.

    Args:
        model: The folder `saved_models/NAME`; its newest version is served.
        host: Address to listen on; "0.0.0.0" is every interface.
        port: Port to listen on; 0 takes any free one.
        max_request_bytes: Largest body of a request, in bytes.
        max_seconds: Longest utterance, in seconds.
        max_instances: Most utterances in one request.
        stop_seconds: How long requests under way may take to end once the server is told to
            stop, in seconds.
    """

    model: Path
    host: str = "127.0.0.1"
    port: int = 8501
    max_request_bytes: int = 32 * 2**20
    max_seconds: float = 60.0
    max_instances: int = 32
    stop_seconds: int = 30

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host must not be empty; got host=''")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be in [0, 65535]; got port={self.port}")
        for name in ("max_request_bytes", "max_seconds", "max_instances", "stop_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {name}={getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class TranscribeConfig:
    """Audio files to text, by a model on this machine or by a server.

    Args:
        model: The folder `saved_models/NAME`; its newest version is used.
        url: Of a model that is served, `http://HOST:PORT/v1/models/NAME`. Either this or
            `model` is given.
        files: Audio files, and folders whose audio files are all taken.
        max_seconds: Longest utterance that `model` is given, in seconds; a server has its own.
    """

    model: Path | None = None
    url: str = ""
    files: tuple[Path, ...] = ()
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.url):
            raise ValueError(f"give either model or url; got model={self.model}, url={self.url!r}")
        if self.url and not MODEL_URL.fullmatch(self.url):
            raise ValueError(f"url must be http://HOST:PORT/v1/models/NAME; got url={self.url!r}")
        if not self.files:
            raise ValueError("files must name at least one file or folder; got files=()")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds must be positive; got max_seconds={self.max_seconds}")
