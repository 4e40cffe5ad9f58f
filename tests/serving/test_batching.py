import asyncio
import threading

import pytest

from tfasr.configs.serving import GatheringConfig
from tfasr.serving.batching import Batcher
from tfasr.serving.errors import Overloaded
from tfasr.serving.inputs import InputError


def ignore(utterances, seconds):
    pass


class Echo:
    """Gives back what it hears once it may; refuses "bad"."""

    def __init__(self):
        self.batches = []
        self.asked, self.allowed = threading.Event(), threading.Event()
        self.allowed.set()

    def answers(self, signature, values):
        self.asked.set()
        self.allowed.wait(timeout=20)
        self.batches.append((signature, list(values)))
        if "bad" in values:
            raise InputError("the model refuses this audio")
        if "wrong" in values:
            return []
        return [{"text": f"{signature} {value}"} for value in values]


def heard(asks, **settings):
    """Has (model, signature, value, seconds) heard side by side; gives the texts or errors."""

    async def run():
        config = GatheringConfig(**{"delay_seconds": 0.2, **settings})
        async with Batcher(config, stop_seconds=5.0, on_batch=ignore) as batcher:
            calls = [batcher.answer(*ask) for ask in asks]
            answers = await asyncio.gather(*calls, return_exceptions=True)
        return [a if isinstance(a, BaseException) else a["text"] for a in answers]

    return asyncio.run(run())


def test_utterances_side_by_side_share_a_call_and_each_gets_its_own_answer():
    model = Echo()
    texts = heard([(model, "s", value, 1.0) for value in range(5)], max_batch=5, parallel=1)
    assert texts == [f"s {value}" for value in range(5)]
    assert model.batches == [("s", [0, 1, 2, 3, 4])]


class Together:
    """Answers once two calls of it are under way."""

    def __init__(self):
        self.met = threading.Barrier(2, timeout=20)
        self.sizes = []

    def answers(self, signature, values):
        self.met.wait()
        self.sizes.append(len(values))
        return [{"text": f"{signature} {value}"} for value in values]


def test_two_batches_are_heard_at_once():
    model = Together()
    asks = [(model, "s", value, 1.0) for value in range(4)]
    assert heard(asks, max_batch=2, parallel=2) == ["s 0", "s 1", "s 2", "s 3"]


def test_batches_that_start_at_once_share_what_waits():
    model = Together()
    asks = [(model, "s", value, 1.0) for value in range(7)]
    assert heard(asks, max_batch=16, parallel=2) == [f"s {value}" for value in range(7)]
    assert sorted(model.sizes) == [3, 4]


def test_no_more_batches_than_are_wanted_are_heard_at_once():
    model, most, now = Echo(), [], threading.Semaphore(2)

    class Counted:
        def answers(self, signature, values):
            assert now.acquire(blocking=False)
            most.append(len(values))
            try:
                return model.answers(signature, values)
            finally:
                now.release()

    counted = Counted()
    asks = [(counted, "s", value, 1.0) for value in range(12)]
    assert heard(asks, max_batch=2, parallel=2) == [f"s {value}" for value in range(12)]
    assert sum(most) == 12
    assert max(most) == 2


def test_a_full_batch_does_not_wait():
    model = Echo()
    texts = heard(
        [(model, "s", value, 1.0) for value in range(4)],
        **{"max_batch": 2, "delay_seconds": 50.0, "deadline_seconds": 60.0},
    )
    assert texts == ["s 0", "s 1", "s 2", "s 3"]
    assert [values for _, values in model.batches] == [[0, 1], [2, 3]]


def test_a_batch_is_of_one_model_and_one_signature():
    one, two = Echo(), Echo()
    asks = [(one, "s", 1, 1.0), (two, "s", 2, 1.0), (one, "t", 3, 1.0), (one, "s", 4, 1.0)]
    assert heard(asks) == ["s 1", "s 2", "t 3", "s 4"]
    assert one.batches == [("s", [1, 4]), ("t", [3])]
    assert two.batches == [("s", [2])]


def test_a_batch_holds_only_so_much_audio_with_its_padding():
    model = Echo()
    asks = [(model, "s", seconds, seconds) for seconds in (1.0, 1.0, 4.0, 9.0, 1.0)]
    heard(asks, batch_seconds=8.0)
    # Three of 1 s go together; 4 s with one of them would have fitted, with two not.
    assert [values for _, values in model.batches] == [[1.0, 1.0, 1.0], [4.0], [9.0]]


@pytest.mark.parametrize("value", ["bad", "wrong"])
def test_one_that_is_refused_does_not_harm_its_company(value):
    model = Echo()
    first, refused, last = heard([(model, "s", each, 1.0) for each in (1, value, 2)])
    assert (first, last) == ("s 1", "s 2")
    assert isinstance(refused, ValueError)


def test_an_utterance_that_nobody_waits_for_is_not_heard():
    model = Echo()
    model.allowed.clear()

    async def run():
        async with Batcher(
            GatheringConfig(delay_seconds=0.0, parallel=1), stop_seconds=5.0, on_batch=ignore
        ) as batcher:
            first = asyncio.create_task(batcher.answer(model, "s", 1, 1.0))
            await asyncio.to_thread(model.asked.wait, 20)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await batcher.answer(model, "s", 2, 1.0)
            third = asyncio.create_task(batcher.answer(model, "s", 3, 1.0))
            await asyncio.sleep(0)
            model.allowed.set()
            return [(await first)["text"], (await third)["text"]]

    assert asyncio.run(run()) == ["s 1", "s 3"]
    assert all(2 not in values for _, values in model.batches)


def test_leaving_waits_for_what_is_under_way():
    model = Echo()
    model.allowed.clear()

    async def ask(batcher):
        with batcher.room.held(1):
            return await batcher.answer(model, "s", 1, 1.0)

    async def run():
        async with Batcher(GatheringConfig(), stop_seconds=20.0, on_batch=ignore) as batcher:
            asked = asyncio.create_task(ask(batcher))
            while not batcher.room.used:
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, model.allowed.set)
        return (await asked)["text"]

    assert asyncio.run(run()) == "s 1"


def test_leaving_ends_what_takes_too_long():
    model = Echo()
    model.allowed.clear()

    async def ask(batcher):
        with batcher.room.held(2):
            await asyncio.gather(*(batcher.answer(model, "s", v, 1.0) for v in (1, 2)))

    async def run():
        async with Batcher(
            GatheringConfig(max_batch=1), stop_seconds=0.05, on_batch=ignore
        ) as batcher:
            asked = asyncio.create_task(ask(batcher))
            while not batcher.room.used:
                await asyncio.sleep(0)
        model.allowed.set()
        await asked

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_the_queue_tells_when_to_come_again():
    async def run():
        async with Batcher(GatheringConfig(queue=2), stop_seconds=5.0, on_batch=ignore) as batcher:
            with batcher.room.held(2), pytest.raises(Overloaded, match="2 of 2 utterances"):
                batcher.room.held(1).__enter__()

    asyncio.run(run())
