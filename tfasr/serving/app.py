"""The web application: the routes of all protocols that speak HTTP."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfasr.serving import openai, page_routes, rest, stream
from tfasr.serving.guard import Guarded
from tfasr.serving.http import exception_handlers
from tfasr.serving.metrics import Measured
from tfasr.serving.service import Service

# What tells nothing of anybody's speech, and is asked for by what can't know a token.
_OPEN = frozenset({"/healthz", "/readyz"}) | page_routes.OPEN_PATHS


def make_app(service: Service) -> Starlette:
    """Makes the web application of one model; its lifespan is that of the service."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    def served() -> str:
        model = service.versions.current
        return f"/v1/models/{model.name} (version {model.version})"

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *rest.routes(service),
            *openai.routes(service),
            *stream.routes(service),
            *page_routes.routes(service),
            *service.metrics.routes(),
        ],
        middleware=[
            Middleware(Measured, metrics=service.metrics),
            Middleware(Guarded, token=service.token, open_paths=_OPEN),
        ],
        exception_handlers=exception_handlers(served),
        lifespan=lambda app: service,
    )
