"""How an exported model is served, and how files are transcribed."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

MODEL_URL = re.compile(r"https?://[^/\s?#]+/v1/models/[^/:\s?#]+(/versions/\d+)?")


def _check_positive(config: Any, *names: str, prefix: str = "") -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(
                f"{prefix}{name} must be positive; got {prefix}{name}={getattr(config, name)}"
            )


@dataclass(frozen=True, kw_only=True)
class GatheringConfig:
    """How requests that are there side by side share a call of the model.

    Args:
        max_batch: Most utterances in one call.
        batch_seconds: Most audio in one call, in seconds, the padding to the longest counted;
            a longer utterance goes alone.
        delay_seconds: Longest that an utterance waits for company while the model is idle, in
            seconds. Company that arrives while the model works waits no longer for it.
        parallel: Calls of the model at once. A call keeps few cores busy throughout, and with two
            the requests of one batch are read while another is heard.
        one_thread: Each operation takes one thread, not all. With `parallel` as many as there are
            processors, a model of ten million parameters hears half as much again. One utterance
            alone takes it as long as with all, and a model ten times as large twice as long.
        queue: Most utterances in the server, from the end of their upload to their answer;
            beyond, requests are answered 503 and when to come again.
        deadline_seconds: Longest from the end of an upload to its answer, in seconds; beyond,
            requests are answered 504.
        decode_threads: Threads that decode and resample audio while the model works.
    """

    max_batch: int = 16
    batch_seconds: float = 240.0
    delay_seconds: float = 0.005
    parallel: int = 2
    one_thread: bool = False
    queue: int = 256
    deadline_seconds: float = 60.0
    decode_threads: int = 2

    def __post_init__(self) -> None:
        _check_positive(
            self,
            *("max_batch", "batch_seconds", "parallel", "queue"),
            *("deadline_seconds", "decode_threads"),
            prefix="gathering.",
        )
        if not 0 <= self.delay_seconds < self.deadline_seconds:
            raise ValueError(
                "gathering.delay_seconds must be in [0, gathering.deadline_seconds); "
                f"got gathering.delay_seconds={self.delay_seconds}"
            )


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """One model behind TensorFlow Serving's REST and gRPC, and OpenAI's transcriptions.

    Args:
        model: The folder `saved_models/NAME`; its newest version is served.
        host: Address to listen on; "0.0.0.0" is every interface.
        port: Port to listen on; 0 takes any free one.
        grpc_port: Port for TensorFlow Serving's gRPC; 0 takes any free one, none is not served.
        max_request_bytes: Largest body of a request, in bytes. The bodies of all requests
            together may be eight times as large.
        max_seconds: Longest utterance, in seconds.
        max_instances: Most utterances in one request.
        max_streams: Most live streams side by side.
        max_stream_seconds: Longest live stream, in seconds.
        read_seconds: How long a request may take to arrive, in seconds.
        stop_seconds: How long requests under way may take to end once the server is told to
            stop, in seconds.
        poll_seconds: How often the model's folder is looked at for a new version, in seconds.
            It is served once it is loaded; requests under way end with the old one.
        token_file: File that holds a token. Requests must then send it, as the header
            `Authorization: Bearer TOKEN`; /healthz and /readyz are open to all. Give one wherever
            `host` is more than this machine.
        gathering: How requests share a call of the model, and how many may wait for it.
    """

    model: Path
    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int | None = None
    max_request_bytes: int = 32 * 2**20
    max_seconds: float = 60.0
    max_instances: int = 32
    max_streams: int = 32
    max_stream_seconds: float = 3600.0
    read_seconds: float = 30.0
    stop_seconds: int = 30
    poll_seconds: float = 2.0
    token_file: Path | None = None
    gathering: GatheringConfig = field(default_factory=GatheringConfig)

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host must not be empty; got host=''")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be in [0, 65535]; got port={self.port}")
        if self.grpc_port is not None and not 0 <= self.grpc_port <= 65535:
            raise ValueError(f"grpc_port must be in [0, 65535]; got grpc_port={self.grpc_port}")
        _check_positive(
            self,
            *("max_request_bytes", "max_seconds", "max_instances"),
            *("max_streams", "max_stream_seconds", "read_seconds", "stop_seconds", "poll_seconds"),
        )
        if self.max_instances > self.gathering.queue:
            raise ValueError(
                f"max_instances must be at most gathering.queue; got "
                f"max_instances={self.max_instances}, gathering.queue={self.gathering.queue}"
            )


@dataclass(frozen=True, kw_only=True)
class TranscribeConfig:
    """Audio files to text, by a model on this machine or by a server.

    Args:
        model: The folder `saved_models/NAME`; its newest version is used.
        url: Of a model that is served, `http://HOST:PORT/v1/models/NAME`, by `tfasr serve` or
            TensorFlow Serving. Either this or `model` is given.
        files: Audio files, and folders whose audio files are all taken; "-" is the standard
            input.
        format: What is written of each file: "lines" its name, a tab and the text, "text" the
            text, "json" a line with the text and the times of words, "srt" and "vtt" subtitles.
        out: Folder that gets a file for each, such as NAME.srt; none prints them.
        token_file: File that holds the token the server of `url` asks for.
        max_seconds: Longest stretch that the model is given at once, in seconds. A longer
            recording is read part by part, in the memory of a few of them, and cut where the
            second half of a stretch is quietest. 0 takes the longest utterance that the model
            was trained on, since many models lose words in what is longer, and leaves recordings
            up to twice as long whole; or 30 where the model or a server does not tell.
        parallel: Files, and parts of long ones, that are heard side by side; a model then takes
            one thread an operation. 0 takes as many as there are processors, and 1 for a single
            file of at most 30 seconds.
    """

    model: Path | None = None
    url: str = ""
    files: tuple[Path, ...] = ()
    format: Literal["lines", "text", "json", "srt", "vtt"] = "lines"
    out: Path | None = None
    token_file: Path | None = None
    max_seconds: float = 0.0
    parallel: int = 0

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.url):
            raise ValueError(f"give either model or url; got model={self.model}, url={self.url!r}")
        if self.url and not MODEL_URL.fullmatch(self.url):
            raise ValueError(f"url must be http://HOST:PORT/v1/models/NAME; got url={self.url!r}")
        if not self.files:
            raise ValueError("files must name at least one file or folder; got files=()")
        if self.token_file is not None and not self.url:
            raise ValueError(f"token_file is for url only; got token_file={self.token_file}")
        if not self.max_seconds >= 0:
            raise ValueError(
                f"max_seconds must be positive, or 0; got max_seconds={self.max_seconds}"
            )
        if self.parallel < 0:
            raise ValueError(f"parallel must be at least 0; got parallel={self.parallel}")

    @property
    def suffix(self) -> str:
        """What the names of files in `out` end in."""
        return {"lines": "tsv", "text": "txt"}.get(self.format, self.format)
