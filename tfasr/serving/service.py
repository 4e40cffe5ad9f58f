"""What answers, whichever protocol asks: versions, decoding, batches and limits."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfasr.configs.serving import ServeConfig
from tfasr.serving.answers import Answer, Heard
from tfasr.serving.batching import Batcher
from tfasr.serving.errors import Late
from tfasr.serving.metrics import Metrics
from tfasr.serving.room import Room
from tfasr.serving.runtime import AUDIO, WAVEFORMS, ServedModel
from tfasr.serving.stream_steps import STREAM, Window
from tfasr.serving.token import read_token
from tfasr.serving.versions import Versions

# Bodies that may stand in memory side by side, as a multiple of the largest.
_BODIES = 8
# How long streams that are ended have to hear what they hold, and to say so.
_LAST_WORDS_SECONDS = 5.0

P = ParamSpec("P")
R = TypeVar("R")


class Service:
    """Answers requests for one model; the protocols put them into words.

    Use it as an asynchronous context manager; leaving waits for what is under way.

    Args:
        versions: The model.
        config: The limits.

    Raises:
        ValueError: The file of the token holds none.
    """

    def __init__(self, versions: Versions, config: ServeConfig) -> None:
        self.versions = versions
        self.config = config
        self.token = "" if config.token_file is None else read_token(config.token_file)
        self.metrics = Metrics()
        self.batcher = Batcher(
            config.gathering, stop_seconds=config.stop_seconds, on_batch=self.metrics.batch
        )
        self.metrics.watch(
            "tfasr_queue_utterances",
            "Utterances in the server, from the end of their upload to their answer.",
            lambda: self.batcher.room.used,
        )
        self.metrics.watch(
            "tfasr_model_version", "The version that answers.", lambda: versions.current.version
        )
        self.bodies = Room(_BODIES * config.max_request_bytes, "bytes of requests", lambda: 1.0)
        self.streams = Room(config.max_streams, "streams", lambda: 10.0)
        self.metrics.watch("tfasr_streams", "Live streams.", lambda: self.streams.used)
        self.stopping = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> None:
        self._decoders = ThreadPoolExecutor(
            max_workers=self.config.gathering.decode_threads, thread_name_prefix="decode"
        )
        self._stack.callback(self._decoders.shutdown, wait=False, cancel_futures=True)
        await self._stack.enter_async_context(self.versions.watched(self.config.poll_seconds))
        await self._stack.enter_async_context(self.batcher)

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def drain_streams(self) -> None:
        """Waits for live streams to end; has those that go on end as they are, when it is time."""
        await self._streams_ended(self.config.stop_seconds)
        self.stopping.set()
        await self._streams_ended(_LAST_WORDS_SECONDS)

    async def _streams_ended(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.streams.used:
                    await asyncio.sleep(0.05)

    async def in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs what takes the processor, beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, lambda: function(*args, **kwargs))

    async def transcribe(
        self,
        model: ServedModel,
        files: Sequence[tuple[str, bytes]],
        *,
        within: float = math.inf,
    ) -> list[Heard]:
        """Answers audio files of one request.

        Args:
            model: The version that the request is for.
            files: What messages call each, and its bytes, of any format and rate.
            within: How long the caller waits, in seconds, where that is less than the server's
                own deadline.

        Raises:
            InputError: Names the first file that can't be used.
            Overloaded: There is no room for so many.
            Late: The deadline has passed.
        """

        async def decode(name: str, data: bytes) -> tuple[bytes, float]:
            wav = await self.in_thread(model.as_wav, data, name)
            return wav, model.seconds_of(wav)

        async def heard() -> list[Heard]:
            wavs = await _all(decode(name, data) for name, data in files)
            return await _all(self._heard(model, AUDIO, wav, seconds) for wav, seconds in wavs)

        return await self._in_time(heard, len(files), within)

    async def transcribe_waveforms(
        self,
        model: ServedModel,
        waveforms: Sequence[NDArray[np.float32]],
        *,
        signature: str = WAVEFORMS,
        within: float = math.inf,
    ) -> list[Heard]:
        """Answers waveforms of one request, float32 [T] in [-1, 1] each; else as `transcribe`."""

        async def heard() -> list[Heard]:
            return await _all(
                self._heard(model, signature, waveform, len(waveform) / model.sample_rate)
                for waveform in waveforms
            )

        return await self._in_time(heard, len(waveforms), within)

    async def step(self, model: ServedModel, window: Window) -> Answer:
        """Has the next window of a live stream heard; raises as `transcribe` does."""
        seconds = len(window.samples) / model.sample_rate

        async def heard() -> list[Heard]:
            return [await self._heard(model, STREAM, window, seconds)]

        [done] = await self._in_time(heard, 1, math.inf)
        return done.answer

    async def _heard(self, model: ServedModel, signature: str, value: Any, seconds: float) -> Heard:
        answer = await self.batcher.answer(model, signature, value, seconds)
        self.metrics.audio(seconds)
        return Heard(answer=answer, seconds=seconds)

    async def _in_time(
        self, heard: Callable[[], Awaitable[list[Heard]]], utterances: int, within: float
    ) -> list[Heard]:
        deadline = min(within, self.config.gathering.deadline_seconds)
        with self.batcher.room.held(utterances):
            try:
                async with asyncio.timeout(deadline):
                    return await heard()
            except TimeoutError:
                raise Late(f"no answer within {deadline:.3g} s; the server is busy") from None


async def _all(calls: Iterable[Awaitable[R]]) -> list[R]:
    """Awaits all side by side; of several errors the first in order is raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[R] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
