"""The web page: an upload, a microphone, the words on their waveform, the model's blocks."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfasr.serving.service import Service

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_FILES = ("index.html", "style.css", "main.js", "audio.js", "recorder.js")
# Nothing but our own files, and no inline code, whatever a transcript says.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; media-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _path(name: str) -> str:
    return "/" if name == "index.html" else f"/page/{name}"


# What a browser loads before anybody can type a token.
OPEN_PATHS = frozenset(map(_path, _FILES))


def routes(service: Service) -> list[Route]:
    """Lists the page, its files, and what it shows of the model."""

    async def get_model(request: Request) -> Response:
        model = service.versions.current
        about = {
            "name": model.name,
            "version": model.version,
            "sample_rate": model.sample_rate,
            "streams": model.stream is not None,
            **describe_blocks(model.facts),
        }
        return JSONResponse(about, headers={"Cache-Control": "no-store"})

    files = [_file_route(name) for name in _FILES]
    return [*files, Route("/page/model.json", get_model)]


def _file_route(name: str) -> Route:
    content = resources.files("tfasr.serving").joinpath("page", name).read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]

    async def get_file(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=kind)

    return Route(_path(name), get_file)


def describe_blocks(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Says how each block was exported; what export.json lacks or garbles is left out.

    Args:
        facts: Of export.json: "blocks", how many; "parameters"; "frozen", with "as" and "blocks".

    Returns:
        "blocks", a form each, "plain" for those as trained; and a "summary" of one line.
    """
    number = facts.get("blocks")
    frozen = facts.get("frozen")
    if type(number) is not int or not 0 <= number <= 1000 or not isinstance(frozen, dict):
        return {"blocks": [], "summary": "The export says nothing of its blocks."}
    forms = ["plain"] * number
    named = frozen.get("blocks")
    listed = named if isinstance(named, list) else []
    fixed = [block for block in listed if type(block) is int and 0 <= block < number]
    for block in fixed:
        forms[block] = str(frozen.get("as", "constant"))
    parameters = facts.get("parameters")
    summary = f"{len(fixed)} of {number} blocks frozen"
    if type(parameters) is int:
        summary += f"; {parameters:,} parameters"
    return {"blocks": forms, "summary": f"{summary}."}
