"""Utterances of requests side by side, heard in one call of the model."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, Self

from tfasr.configs.serving import GatheringConfig
from tfasr.serving.answers import Answer
from tfasr.serving.room import Room

# Of the latest batch, in the running mean of how long an utterance takes.
_WEIGHT = 0.2


class Model(Protocol):
    """What hears a batch."""

    def answers(self, signature: str, values: Sequence[Any]) -> list[Answer]:
        """Gives an answer per value, in their order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    model: Model
    signature: str
    value: Any
    seconds: float
    since: float
    answer: asyncio.Future[Answer]


class Batcher:
    """Gathers utterances and has them heard, in threads, so many batches at a time.

    A batch is of one model and one signature, in the order in which its utterances came. It
    starts when it is full, or when its first utterance has waited the delay, and leaves what it
    can to the batches that may start beside it. Where a batch
    fails, each of its utterances is heard alone, so that one can't harm the others.

    Use it as an asynchronous context manager; leaving waits for what is under way.

    Args:
        config: How large and how late a batch may be, and how many utterances there may be.
        stop_seconds: How long leaving waits, in seconds.
        on_batch: Told how many utterances a batch had and how many seconds it took.
    """

    def __init__(
        self,
        config: GatheringConfig,
        *,
        stop_seconds: float,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self.config = config
        self.room = Room(config.queue, "utterances", self._expected_seconds)
        self._stop_seconds = stop_seconds
        self._on_batch = on_batch
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._full = asyncio.Event()
        self._seconds_each = 0.0
        self._idle = asyncio.Semaphore(config.parallel)
        self._hearing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self.config.parallel, thread_name_prefix="model")
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *error: object) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_seconds):
                while self.room.used:
                    await asyncio.sleep(0.01)
        tasks = [self._task, *self._hearing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for waiting in self._queue:
            waiting.answer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """How many utterances wait for a batch."""
        return len(self._queue)

    async def answer(self, model: Model, signature: str, value: Any, seconds: float) -> Answer:
        """Has one utterance heard; the caller holds `room` for it.

        Args:
            model: Who hears it.
            signature: By which of its signatures.
            value: As the model takes it.
            seconds: How long the utterance is.

        Raises:
            InputError: The model refuses it.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(
            model=model,
            signature=signature,
            value=value,
            seconds=seconds,
            since=loop.time(),
            answer=loop.create_future(),
        )
        self._queue.append(waiting)
        self._filled.set()
        if len(self._queue) >= self.config.max_batch:
            self._full.set()
        return await waiting.answer

    async def _serve(self) -> None:
        while True:
            await self._idle.acquire()
            batch: list[_Waiting] = []
            while not batch:
                await self._filled.wait()
                await self._company()
                batch = self._take()
            task = asyncio.create_task(self._hear(batch))
            self._hearing.add(task)
            task.add_done_callback(self._heard)

    def _heard(self, task: asyncio.Task[None]) -> None:
        self._hearing.discard(task)
        self._idle.release()

    async def _company(self) -> None:
        due = self._queue[0].since + self.config.delay_seconds
        wait = due - asyncio.get_running_loop().time()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._full.wait()

    def _take(self) -> list[_Waiting]:
        """Takes the first that still waits, and those behind it that fit it."""
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        longest = 0.0
        free = self.config.parallel - len(self._hearing)
        share = min(-(-len(self._queue) // free), self.config.max_batch)
        for waiting in self._queue:
            if waiting.answer.done():
                continue  # Its deadline has passed, or its client has gone.
            longest_with = max(longest, waiting.seconds)
            fits = not batch or (
                (batch[0].model, batch[0].signature) == (waiting.model, waiting.signature)
                and len(batch) < share
                and longest_with * (len(batch) + 1) <= self.config.batch_seconds
            )
            if fits:
                batch.append(waiting)
                longest = longest_with
            else:
                left.append(waiting)
        self._queue = left
        if not left:
            self._filled.clear()
        if len(left) < self.config.max_batch:
            self._full.clear()
        return batch

    async def _hear(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        first = batch[0]
        values = [waiting.value for waiting in batch]
        try:
            answers = await loop.run_in_executor(
                self._threads, first.model.answers, first.signature, values
            )
            heard = list(zip(batch, answers, strict=True))
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        except Exception as error:
            if len(batch) == 1:
                _end(first, error)
            else:
                for waiting in batch:
                    await self._hear([waiting])
            return
        for waiting, answer in heard:
            _end(waiting, answer)
        self._measure(len(batch), loop.time() - start)

    def _measure(self, utterances: int, seconds: float) -> None:
        self._on_batch(utterances, seconds)
        each = seconds / utterances
        before = self._seconds_each or each
        self._seconds_each = (1 - _WEIGHT) * before + _WEIGHT * each

    def _expected_seconds(self) -> float:
        return self.room.used * self._seconds_each / self.config.parallel


def _end(waiting: _Waiting, result: Answer | Exception) -> None:
    if waiting.answer.done():
        return
    if isinstance(result, Exception):
        waiting.answer.set_exception(result)
    else:
        waiting.answer.set_result(result)
