"""Asks a running server for text: at once, beside other work, or live."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import soundfile
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tfasr.serving.errors import ServerError
from tfasr.serving.inputs import one_line
from tfasr.serving.transcripts import Transcript, transcript_of_prediction

_MODELS = "/v1/models/"


@dataclass(frozen=True, kw_only=True)
class Client:
    """Asks a server that speaks TensorFlow Serving's REST, ours or TensorFlow Serving itself.

    Args:
        url: Of the model, such as http://127.0.0.1:8501/v1/models/NAME.
        token: What the server asks for, "" for none.
        timeout: How long to wait for the server at a time, in seconds.
    """

    url: str
    token: str = ""
    timeout: float = 120.0

    def transcribe(self, audio: Sequence[bytes]) -> list[Transcript]:
        """Gives the transcript of each audio file, with the times of words if the model has them.

        Args:
            audio: Files of any format and rate that the server reads; all go in one request.

        Raises:
            ValueError: The server refuses the audio; has its reason.
            ServerError: There is no such server or model at `url`, or it fails.
        """
        if not audio:
            return []
        try:
            with httpx.Client(timeout=self.timeout) as client:
                response = client.post(self._predict, headers=self._headers, content=_body(audio))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._no_answer(error) from None
        return self._transcripts(response, audio)

    async def transcribe_beside(self, audio: Sequence[bytes]) -> list[Transcript]:
        """Does what `transcribe` does, while the event loop does other work."""
        if not audio:
            return []
        try:
            async with httpx.AsyncClient(timeout=self.timeout) as client:
                response = await client.post(
                    self._predict, headers=self._headers, content=_body(audio)
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._no_answer(error) from None
        return self._transcripts(response, audio)

    async def stream(self, pcm: AsyncIterable[bytes]) -> AsyncIterator["Said"]:
        """Sends live speech to a server of ours, and yields its text as it grows.

        Args:
            pcm: 16-bit little-endian mono samples at the model's rate, in parts of any size.

        Yields:
            The whole text so far, whenever it has changed, and once more at the end.

        Raises:
            ValueError: The server refuses the stream; has its reason.
            ServerError: There is no such server, or it fails.
        """
        async with self._connected() as socket:
            faults: list[Exception] = []
            sending = asyncio.create_task(_send(socket, pcm, faults))
            try:
                async for said in _received(socket):
                    yield said
            except websockets.ConnectionClosed:
                if faults:
                    raise faults[0] from None
                raise
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        server = self.url.partition(_MODELS)[0]
        address = f"ws{server.removeprefix('http')}/v1/audio/stream"
        try:
            async with connect(
                address, additional_headers=self._headers, open_timeout=self.timeout
            ) as socket:
                yield socket
        except websockets.ConnectionClosed as error:
            reason = error.rcvd.reason if error.rcvd else ""
            if error.rcvd and error.rcvd.code in (1008, 1009):
                raise ValueError(reason) from None
            raise ServerError(f"{address}: the stream was cut; {reason or 'no reason'}") from None
        except (OSError, websockets.InvalidHandshake, websockets.InvalidURI) as error:
            raise self._no_answer(error) from None

    @property
    def _predict(self) -> str:
        return f"{self.url.rstrip('/')}:predict"

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _no_answer(self, error: Exception) -> ServerError:
        reason = one_line(str(error)) or type(error).__name__
        return ServerError(f"{self.url}: no answer; {reason} (is `tfasr serve` running?)")

    def _transcripts(self, response: httpx.Response, audio: Sequence[bytes]) -> list[Transcript]:
        answer = _json(response)
        if response.status_code in (400, 413):
            raise ValueError(_reason(answer))
        predictions = answer.get("predictions") if isinstance(answer, dict) else None
        try:
            if response.status_code != 200 or len(predictions or ()) != len(audio):
                raise TypeError
            return [
                transcript_of_prediction(prediction, _seconds(data))
                for prediction, data in zip(predictions or (), audio, strict=True)
            ]
        except (TypeError, ValueError, KeyError):
            raise ServerError(
                f"{self.url}: status {response.status_code}; {_reason(answer)}"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was said in a stream so far.

    Args:
        text: From the stream's start.
        seconds: How much the server has received.
        is_final: Whether the stream has ended.
    """

    text: str
    seconds: float
    is_final: bool


def transcribe_url(url: str, audio: Sequence[bytes], *, timeout: float = 120.0) -> list[str]:
    """Gives the text of each audio file; the arguments and errors are those of `Client`."""
    return [each.text for each in Client(url=url, timeout=timeout).transcribe(audio)]


async def _send(
    socket: ClientConnection, pcm: AsyncIterable[bytes], faults: list[Exception]
) -> None:
    try:
        async for part in pcm:
            await socket.send(part)
        await socket.send(json.dumps({"end": True}))
    except websockets.ConnectionClosed:
        return  # Whoever receives is told why.
    except Exception as error:
        faults.append(error)
        # Else the server would wait for more, and we for its answer.
        await socket.close()


async def _received(socket: ClientConnection) -> AsyncIterator[Said]:
    while True:
        message = json.loads(await socket.recv())
        if message["type"] == "ready":
            continue
        is_final = message["type"] == "final"
        yield Said(text=message["text"], seconds=message["seconds"], is_final=is_final)
        if is_final:
            return


def _body(audio: Sequence[bytes]) -> bytes:
    instances = [{"b64": base64.b64encode(data).decode("ascii")} for data in audio]
    return json.dumps({"instances": instances}).encode()


def _seconds(audio: bytes) -> float:
    """How long a file is that the server has read; 0 where it reads more than we do."""
    try:
        return float(soundfile.info(io.BytesIO(audio)).duration)
    except soundfile.SoundFileError:
        return 0.0


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def _reason(answer: Any) -> str:
    reason = answer.get("error", answer) if isinstance(answer, dict) else answer
    return one_line(str(reason))[:500]
