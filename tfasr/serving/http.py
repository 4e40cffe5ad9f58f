"""HTTP's own matters: bodies within their limits, errors as JSON on one line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tfasr.serving.errors import Late, Overloaded
from tfasr.serving.inputs import InputError, one_line
from tfasr.serving.room import Hold
from tfasr.serving.service import Service

# Where the rest of a body is left unread, its connection can't be used again.
CLOSE = {"Connection": "close"}
_OPENAI = "/v1/audio/"


@asynccontextmanager
async def received(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Yields the body of a request, for which there is room until the block ends.

    Raises:
        HTTPException: The body is too large (413) or too slow (408).
        Overloaded: All bodies together are too large.
    """
    with service.bodies.held() as hold:
        body = bytearray()
        async for chunk in limited(request, service, hold):
            body += chunk
        yield bytes(body)


async def limited(request: Request, service: Service, hold: Hold) -> AsyncIterator[bytes]:
    """Yields the chunks of a body, as long as they are within the limits of `received`."""
    max_bytes = service.config.max_request_bytes
    too_large = HTTPException(
        413, f"a request must be at most {max_bytes} bytes; send less at a time", CLOSE
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > max_bytes):
        raise too_large
    end = asyncio.get_running_loop().time() + service.config.read_seconds
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(end):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise HTTPException(
                408, f"a request must arrive within {service.config.read_seconds:g} s", CLOSE
            ) from None
        if chunk is None:
            return
        if hold.amount + len(chunk) > max_bytes:
            raise too_large
        hold.grow(len(chunk))
        yield chunk


def exception_handlers(served: Callable[[], str]) -> dict[Any, Any]:
    """Makes the handlers that give every error a status and a line of JSON.

    Args:
        served: Says what there is, for those who ask for something else.
    """

    async def on_http_error(request: Request, error: HTTPException) -> Response:
        message = error.detail
        if error.status_code == 404:
            message = f"nothing at {request.url.path[:200]!a}; this server has {served()}"
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            message = f"{request.method[:20]!a} is not for this path; it takes {allowed}"
        return _error(request, error.status_code, message, error.headers)

    return {HTTPException: on_http_error, **_HANDLERS}


async def _on_input_error(request: Request, error: InputError) -> Response:
    return _error(request, 400, str(error))


async def _on_overload(request: Request, error: Overloaded) -> Response:
    headers = {**CLOSE, "Retry-After": str(error.retry_after)}
    return _error(request, 503, str(error), headers)


async def _on_late(request: Request, error: Late) -> Response:
    return _error(request, 504, str(error))


async def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    return _error(request, 400, "the client went away before the end of its request")


async def _on_fault(request: Request, error: Exception) -> Response:
    return _error(request, 500, "the server failed on this request; its log says why")


_HANDLERS = {
    InputError: _on_input_error,
    Overloaded: _on_overload,
    Late: _on_late,
    ClientDisconnect: _on_disconnect,
    Exception: _on_fault,
}


def _error(
    request: Request, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    return error_response(request.url.path, status, message, headers)


def error_response(
    path: str, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Writes an error as OpenAI's interface does on its path, else as TensorFlow Serving does."""
    error: Any = one_line(message)
    if path.startswith(_OPENAI):
        kind = "invalid_request_error" if status < 500 else "server_error"
        error = {"message": error, "type": kind, "param": None, "code": None}
    # ASCII, since a message may quote half a surrogate pair, which no UTF-8 can hold.
    return Response(json.dumps({"error": error}), status, headers, "application/json")
