"""The web application: the routes of all protocols that speak HTTP."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfasr.serving import openai, rest
from tfasr.serving.http import exception_handlers
from tfasr.serving.service import Service


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
        ],
        exception_handlers=exception_handlers(served),
        lifespan=lambda app: service,
    )
