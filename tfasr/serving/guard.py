"""Keeps an application for those who send the token."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tfasr.serving.http import CLOSE, error_response
from tfasr.serving.token import REFUSAL, SCHEME, SUBPROTOCOL, is_bearer


class Guarded:
    """Lets an application answer only those who send the token.

    A browser can't give a WebSocket headers: there, the token may also be a subprotocol,
    "bearer.TOKEN".

    Args:
        app: The application.
        token: What must be sent; "" lets everybody ask.
        open_paths: What anybody may ask for.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: frozenset[str]) -> None:
        self.app = app
        self.token = token
        self.open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self.token or self._may_ask(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": REFUSAL})
        else:
            headers = {**CLOSE, "WWW-Authenticate": "Bearer"}
            await error_response(scope["path"], 401, REFUSAL, headers)(scope, receive, send)

    def _may_ask(self, scope: Scope) -> bool:
        if scope["path"] in self.open_paths:
            return True
        if is_bearer(Headers(scope=scope).get("authorization", ""), self.token):
            return True
        return any(
            is_bearer(f"{SCHEME}{name.removeprefix(SUBPROTOCOL)}", self.token)
            for name in scope.get("subprotocols", ())
        )
