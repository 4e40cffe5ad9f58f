"""A server process: its sockets, its start and its end."""

import asyncio
import errno
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Literal

import uvicorn

from tfasr.configs.serving import ServeConfig
from tfasr.serving.app import make_app
from tfasr.serving.grpc_server import grpc_server
from tfasr.serving.heads import protocol_for
from tfasr.serving.runtime import ServedModel
from tfasr.serving.service import Service
from tfasr.serving.versions import Versions

# Half a minute of 16-bit PCM at 16 kHz: no microphone sends as much at a time.
_FRAME_BYTES = 2**20


def serve(config: ServeConfig) -> None:
    """Serves a model until SIGTERM or SIGINT, then lets requests under way end.

    Prints one line once requests are taken.

    Raises:
        ValueError: The model can't be loaded, or the port not be taken.
    """
    with _bound_socket(config.host, config.port) as listener:
        service = Service(Versions(config.model, max_seconds=config.max_seconds), config)
        # The service answers gRPC too, so it is no part of the web application here.
        server = web_server(service, lifespan="off")
        _allow_connections()
        with _listening_errors(config.host, config.port):
            listener.listen(1024)
        with _ended_by_signals(server):
            asyncio.run(_run(server, service, listener))


@contextmanager
def serving(config: ServeConfig) -> Iterator[str]:
    """Serves a model over HTTP, in a thread, while the block runs.

    Yields:
        The model's URL.

    Raises:
        ValueError: The model can't be loaded, or the port not be taken.
    """
    with _bound_socket(config.host, config.port) as listener:
        service = Service(Versions(config.model, max_seconds=config.max_seconds), config)
        server = web_server(service, lifespan="on")
        # From here on connections wait until the thread takes them.
        listener.listen(1024)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield _model_url(service.versions.current, listener)
        finally:
            server.should_exit = True
            thread.join()


def web_server(service: Service, *, lifespan: Literal["on", "off"]) -> uvicorn.Server:
    """Makes the server of what speaks HTTP.

    Args:
        service: What answers.
        lifespan: "on" enters the service when the server starts, "off" finds it entered.
    """
    return _DrainingServer(
        service,
        uvicorn.Config(
            make_app(service),
            lifespan=lifespan,
            http=protocol_for(service.config.read_seconds),
            ws="websockets-sansio",
            ws_max_size=_FRAME_BYTES,
            # To set up logging anew closes what others in the process log to.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=service.config.stop_seconds,
        ),
    )


class _DrainingServer(uvicorn.Server):
    """Takes nothing new when it is stopped, and lets live streams end before it closes them.

    Uvicorn itself closes every WebSocket at once.
    """

    def __init__(self, service: Service, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._service.drain_streams()
        await super().shutdown(sockets)


def _allow_connections() -> None:
    """Takes as many open files as the system allows: each idle connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(server: uvicorn.Server, service: Service, listener: socket.socket) -> None:
    config = service.config
    async with service, AsyncExitStack() as stack:
        greeting = _greeting(service.versions.current, listener)
        if config.grpc_port is not None:
            host = _url_host(config.host)
            address = f"{host}:{config.grpc_port}"
            port = await stack.enter_async_context(grpc_server(service, address))
            greeting += f"; gRPC at {host}:{port}"
        print(greeting, flush=True)
        await server.serve(sockets=[listener])


def _bound_socket(host: str, port: int) -> socket.socket:
    # Bound before the model is loaded, so that a port in use is told at once.
    with _listening_errors(host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener


@contextmanager
def _listening_errors(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port must be free; got port={port}, in use on {host} (port 0 takes a free one)"
            ) from None
        raise ValueError(f"cannot listen on host={host}, port={port}; {error.strerror}") from None


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Makes a stop that was asked for a normal exit.

    Uvicorn raises the signal that ended it once more when it is done, which would end the
    process as if it had been killed, or with the traceback of a keyboard interrupt.
    """

    def stop(number: int, frame: Any) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _greeting(model: ServedModel, listener: socket.socket) -> str:
    url = _model_url(model, listener)
    root = url.partition("/v1/models/")[0]
    call = f"curl -F file=@speech.wav {root}/v1/audio/transcriptions"
    return f"serving {model.name} version {model.version} at {url}; page: {root}/; try: {call}"


def _model_url(model: ServedModel, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{_url_host(host)}:{port}/v1/models/{model.name}"


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
