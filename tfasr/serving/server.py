"""A SavedModel behind TensorFlow Serving's REST interface."""

import asyncio
import errno
import json
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfasr.configs.serving import ServeConfig
from tfasr.serving.inputs import InputError, one_line
from tfasr.serving.rest import model_metadata, model_status, predict
from tfasr.serving.runtime import ServedModel


def make_app(model: ServedModel, config: ServeConfig) -> Starlette:
    """Makes the web application of one model.

    Requests are read side by side, but parsed and answered one at a time in a thread, so
    that health is told meanwhile and no more than one body stands unpacked in memory.

    Args:
        model: What answers.
        config: The limits of a request.
    """
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
    metadata = model_metadata(model.name, model.version, model.folder)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    async def get_status(request: Request) -> Response:
        return JSONResponse(model_status(model.version))

    async def get_metadata(request: Request) -> Response:
        return JSONResponse(metadata)

    async def post_predict(request: Request) -> Response:
        body = await _read_body(request, config.max_request_bytes)
        loop = asyncio.get_running_loop()
        return JSONResponse(
            await loop.run_in_executor(worker, predict, model, body, config.max_instances)
        )

    newest = f"/v1/models/{model.name}"
    routes = [Route("/healthz", healthz), Route("/readyz", readyz)]
    for path in (newest, f"{newest}/versions/{model.version}"):
        routes += [
            Route(path, get_status),
            Route(f"{path}/metadata", get_metadata),
            Route(f"{path}:predict", post_predict, methods=["POST"]),
        ]

    async def on_http_error(request: Request, error: Exception) -> Response:
        return _http_error(request, error, f"{newest} (version {model.version})")

    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: on_http_error,
            InputError: _on_input_error,
            ClientDisconnect: _on_disconnect,
            Exception: _on_fault,
        },
    )


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = HTTPException(
        413,
        f"a request must be at most {max_bytes} bytes; send fewer instances",
        # The rest of the body is left unread, so the connection can't be used again.
        {"Connection": "close"},
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > max_bytes):
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _http_error(request: Request, error: Exception, served: str) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = error.detail
    if error.status_code == 404:
        message = f"nothing at {request.url.path[:200]!a}; this server has {served}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method[:20]!a} is not for this path; it takes {allowed}"
    return _error(error.status_code, message, error.headers)


async def _on_input_error(request: Request, error: Exception) -> Response:
    return _error(400, str(error))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return _error(400, "the client went away before the end of its request")


async def _on_fault(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed on this request; its log says why")


def _error(status: int, message: str, headers: Any = None) -> Response:
    # ASCII, since a message may quote half a surrogate pair, which no UTF-8 can hold.
    content = json.dumps({"error": one_line(message)})
    return Response(content, status, headers, "application/json")


def serve(config: ServeConfig) -> None:
    """Serves a model until SIGTERM or SIGINT, then lets requests under way end.

    Prints one line once requests are taken.

    Raises:
        ValueError: The model can't be loaded, or the port not be taken.
    """
    with _bound_socket(config.host, config.port) as listener:
        model = ServedModel(config.model, max_seconds=config.max_seconds)
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(model, config),
                lifespan="off",
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=config.stop_seconds,
            )
        )
        with _listening_errors(config.host, config.port):
            listener.listen(128)
        print(_greeting(model, listener), flush=True)
        with _ended_by_signals(server):
            server.run(sockets=[listener])


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
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/models/{model.name}"
    # Sent from a pipe, since a word of a command line holds only a few seconds of audio.
    body = """(echo '{"instances": [{"b64": "'; base64 <speech.wav; echo '"}]}')"""
    call = f"{body} | curl -d @- {url}:predict"
    return f"serving {model.name} version {model.version} at {url}; try: {call}"
