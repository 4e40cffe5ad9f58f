"""Live streams over a WebSocket: PCM in, what was said so far out."""

import asyncio
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tfasr.serving.errors import Late, Overloaded
from tfasr.serving.inputs import one_line, shown
from tfasr.serving.runtime import ServedModel
from tfasr.serving.service import Service
from tfasr.serving.stream_steps import State, StreamSteps, Window

PATH = "/v1/audio/stream"
# Offered by browsers beside the one that carries a token.
SUBPROTOCOL = "tfasr"
_FULL_SCALE = np.float32(32768)

# Close codes of RFC 6455, section 7.4.1, and of its registry.
_NORMAL, _POLICY, _TOO_BIG, _RESTART, _LATER = 1000, 1008, 1009, 1012, 1013
_REASON_BYTES = 123


class Refused(ValueError):
    """The stream can't go on; has a close code and a line that says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def routes(service: Service) -> list[WebSocketRoute]:
    """Lists the stream.

    A client sends binary frames of 16-bit little-endian mono PCM at the model's rate, of any
    size, and `{"end": true}` when there is no more. The server sends JSON: first `{"type":
    "ready", "sample_rate": ..}`, then `{"type": "partial", "text": .., "seconds": ..}` whenever
    the text of the stream has changed, and `{"type": "final", ..}` at its end. A server that is
    stopped gives streams time to end; to those that go on it sends what was said so far as final,
    and closes them with code 1012.
    """

    async def hear(websocket: WebSocket) -> None:
        offered = websocket.scope.get("subprotocols", ())
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        code, reason = _NORMAL, ""
        try:
            with service.streams.held(1):
                await _Stream(websocket, service).run()
        except WebSocketDisconnect:
            return
        except Refused as error:
            code, reason = error.code, str(error)
        except (Overloaded, Late) as error:
            code, reason = _LATER, str(error)
        await websocket.close(code, _short(reason))

    return [WebSocketRoute(PATH, hear)]


class _Stream:
    """One client's stream.

    Args:
        websocket: Accepted.
        service: What hears it.

    Raises:
        Refused: The model hears no streams.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self.websocket = websocket
        self.service = service
        self.model: ServedModel = service.versions.current
        if self.model.stream is None:
            raise Refused(_POLICY, f"{self.model.name} hears whole recordings only, no streams")
        self.steps: StreamSteps = self.model.stream
        self.state: State = {}
        self.samples = np.zeros(0, np.float32)
        self.odd = b""
        self.received = 0
        self.text = ""

    async def run(self) -> None:
        """Hears the stream to its end."""
        rate = self.model.sample_rate
        about = {"model": self.model.name, "version": self.model.version}
        self.state = await self.service.in_thread(self.steps.start)
        await self._send("ready", sample_rate=rate, **about)
        while (pcm := await self._receive()) is not None:
            self._add(pcm)
            while len(self.samples) >= self.steps.samples:
                await self._step(self.samples[: self.steps.samples])
                self.samples = self.samples[self.steps.shift :]
        is_stopped = self.service.stopping.is_set()
        if self.odd and not is_stopped:
            raise Refused(_POLICY, "16-bit samples have two bytes; the stream ends in half of one")
        if len(self.samples):
            await self._step(self.samples)
        await self._send("final", text=self.text, seconds=self.received / rate)
        if is_stopped:
            raise Refused(_RESTART, "the server stops; go on with a new stream")

    async def _receive(self) -> bytes | None:
        """Returns the next frame; None at the end of the stream, or of the server."""
        seconds = self.service.config.read_seconds
        receiving = asyncio.ensure_future(self.websocket.receive())
        stopping = asyncio.ensure_future(self.service.stopping.wait())
        try:
            await asyncio.wait(
                {receiving, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
            receiving.cancel()  # Nothing, where it is done.
        if not receiving.done():
            if self.service.stopping.is_set():
                return None
            raise Refused(_POLICY, f"no audio came within {seconds:g} s")
        message = receiving.result()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", _NORMAL))
        if message.get("bytes") is not None:
            return bytes(message["bytes"])
        try:
            is_end = json.loads(message["text"]) == {"end": True}
        except (ValueError, RecursionError):
            is_end = False
        if not is_end:
            raise Refused(
                _POLICY, f'a text frame must be {{"end": true}}; got {shown(message["text"])}'
            )
        return None

    def _add(self, pcm: bytes) -> None:
        pcm = self.odd + pcm
        whole = len(pcm) // 2 * 2
        self.odd = pcm[whole:]
        samples = np.frombuffer(pcm[:whole], "<i2").astype(np.float32) / _FULL_SCALE
        self.samples = np.concatenate([self.samples, samples])
        self.received += len(samples)
        longest = self.service.config.max_stream_seconds
        if self.received > longest * self.model.sample_rate:
            raise Refused(_TOO_BIG, f"a stream must last at most {longest:g} s")

    async def _step(self, samples: NDArray[np.float32]) -> None:
        answer = await self.service.step(self.model, Window(samples=samples, state=self.state))
        self.state = answer["state"]
        if answer["text"] != self.text:
            self.text = answer["text"]
            seconds = self.received / self.model.sample_rate
            await self._send("partial", text=self.text, seconds=seconds)

    async def _send(self, kind: str, **values: Any) -> None:
        await self.websocket.send_text(json.dumps({"type": kind, **values}))


def _short(reason: str) -> str:
    """Cuts a reason to what a close frame holds."""
    return one_line(reason).encode()[:_REASON_BYTES].decode(errors="ignore")
