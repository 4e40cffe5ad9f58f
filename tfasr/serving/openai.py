"""OpenAI's transcription interface, so that its clients work here too."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, closing

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfasr.serving.http import limited
from tfasr.serving.inputs import InputError, one_line, shown
from tfasr.serving.service import Service
from tfasr.serving.transcripts import FORMATS, TranscriptFormat, transcript_of, write_transcript

_MEDIA_TYPES = {
    "json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "verbose_json": "application/json",
    "vtt": "text/vtt",
}
# Of a recogniser of one language, without a prompt or sampling, these change nothing.
_WITHOUT_EFFECT = (
    "language",
    "prompt",
    "temperature",
    "timestamp_granularities[]",
    "timestamp_granularities",
)
_FIELDS = ("file", "model", "response_format", *_WITHOUT_EFFECT)


class _InMemory(MultiPartParser):
    """Writes no upload to a disk; the limit of a request bounds what is in memory."""

    spool_max_size = 0  # Without a bound.

    def close(self) -> None:
        """Frees the uploads, of which a request that failed leaves some open."""
        for file in self._files_to_close_on_error:
            file.close()


def routes(service: Service) -> list[Route]:
    """Lists what OpenAI's clients ask for."""

    async def get_models(request: Request) -> Response:
        name = service.versions.current.name
        model = {"id": name, "object": "model", "created": 0, "owned_by": "tfasr"}
        return JSONResponse({"object": "list", "data": [model]})

    async def post_transcription(request: Request) -> Response:
        model = service.versions.current
        with service.bodies.held() as hold:
            async with _form(request, limited(request, service, hold)) as form:
                _check_fields(form, model.name)
                chosen = _format(form)
                data = await _file(form)
            [heard] = await service.transcribe(model, [("file", data)])
        return Response(
            write_transcript(transcript_of(heard), chosen), media_type=_MEDIA_TYPES[chosen]
        )

    return [
        Route("/v1/models", get_models),
        Route("/v1/audio/transcriptions", post_transcription, methods=["POST"]),
    ]


@asynccontextmanager
async def _form(request: Request, body: AsyncIterator[bytes]) -> AsyncIterator[FormData]:
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise InputError(f"the body must be multipart/form-data; got {shown(kind)}")
    parser = _InMemory(request.headers, _generator(body), max_files=1, max_fields=32)
    with closing(parser):
        try:
            form = await parser.parse()
        except (MultiPartException, FormParserError) as error:
            reason = one_line(getattr(error, "message", "") or str(error))
            raise InputError(f"the body must be multipart/form-data; {reason}") from None
        yield form


async def _generator(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async for chunk in body:
        yield chunk


def _check_fields(form: FormData, name: str) -> None:
    for field in form:
        if field not in _FIELDS:
            raise InputError(f"a field must be one of {', '.join(_FIELDS)}; got {shown(field)}")
    asked = form.get("model", name)
    if asked != name:
        raise HTTPException(404)


def _format(form: FormData) -> TranscriptFormat:
    asked = form.get("response_format", "json")
    for form_name in FORMATS:
        if asked == form_name:
            return form_name
    raise InputError(f"response_format must be one of {', '.join(FORMATS)}; got {shown(asked)}")


async def _file(form: FormData) -> bytes:
    files = form.getlist("file")
    if len(files) != 1 or not isinstance(files[0], UploadFile):
        raise InputError('the body must have one whole part "file" with a file name')
    return await files[0].read()
