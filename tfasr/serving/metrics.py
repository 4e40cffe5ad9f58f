"""What a server counts, in the form that Prometheus reads."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# From an utterance of a moment to a queue that is full.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tfasr_requests",
            "Requests by path and by status of their answer.",
            ["path", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "tfasr_request_seconds",
            "From the head of a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "tfasr_batch_utterances",
            "Utterances that shared a call of the model.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._batch_seconds = Histogram(
            "tfasr_batch_seconds", "Calls of the model.", buckets=_SECONDS, registry=self.registry
        )
        self._audio = Counter(
            "tfasr_audio_seconds", "Audio that was answered.", registry=self.registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Tells a value that is asked for when the counts are read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def request(self, path: str, status: str, seconds: float) -> None:
        """Counts a request that was answered."""
        self._requests.labels(path, status).inc()
        self._request_seconds.labels(path).observe(seconds)

    def batch(self, utterances: int, seconds: float) -> None:
        """Counts a call of the model."""
        self._batch_size.observe(utterances)
        self._batch_seconds.observe(seconds)

    def audio(self, seconds: float) -> None:
        """Counts an utterance that was answered."""
        self._audio.inc(seconds)

    def routes(self) -> list[Route]:
        """Lists where Prometheus asks."""

        async def get_metrics(request: Request) -> Response:
            text = generate_latest(self.registry)
            return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

        return [Route("/metrics", get_metrics)]


class Measured:
    """Counts the requests of an application over HTTP.

    Args:
        app: The application.
        metrics: Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        start, status = clock(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            # What is nowhere may be called anything, and each name would be kept for ever.
            path = scope["path"] if status not in (401, 404, 405) else "other"
            self.metrics.request(path, str(status), clock() - start)
