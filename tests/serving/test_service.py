import asyncio

import numpy as np
import pytest

from tfasr.audio.decoding import wav_bytes
from tfasr.configs.seeds import counted_generator
from tfasr.configs.serving import GatheringConfig
from tfasr.serving.errors import Late, Overloaded
from tfasr.serving.inputs import InputError


def wav(*samples):
    return wav_bytes(np.array(samples, np.int16), 8000)


def files(*data):
    return [(f"file {index}", each) for index, each in enumerate(data)]


def test_hundreds_of_requests_side_by_side_get_what_each_gets_alone(model_folder, service_of):
    generator = counted_generator(0, "requests")
    audio = [
        generator.integers(-1000, 1000, generator.integers(1, 400)).astype(np.int16)
        for _ in range(300)
    ]
    service = service_of(model_folder, gathering=GatheringConfig(queue=300, delay_seconds=0.02))
    model = service.versions.current
    alone = [model.transcribe([wav_bytes(samples, 8000)])[0] for samples in audio]

    async def ask(number):
        samples = audio[number]
        if number % 3:
            [heard] = await service.transcribe(model, files(wav_bytes(samples, 8000)))
        else:
            waveform = (samples / 32768).astype(np.float32)
            [heard] = await service.transcribe_waveforms(model, [waveform])
        return heard.text

    async def run():
        async with service:
            return await asyncio.gather(*map(ask, range(len(audio))))

    together = asyncio.run(run())
    assert together == alone
    assert together == [f"{len(samples)} {samples.sum()}" for samples in audio]


def ask_while_waiting(service, model, ask):
    """Awaits `ask` while the model works on an utterance; then has the model go on."""

    async def run():
        async with service:
            first = asyncio.create_task(service.transcribe(model, files(wav(1))))
            await asyncio.to_thread(model.asked.wait, 20)
            try:
                return await ask()
            finally:
                model.allowed.set()
                assert (await first)[0].text == "1 1"

    return asyncio.run(run())


def test_requests_beyond_the_queue_are_refused_at_once(model_folder, service_of, waiting_model):
    service = service_of(model_folder, max_instances=2, gathering=GatheringConfig(queue=2))
    service.versions.current = model = waiting_model(model_folder)
    with pytest.raises(Overloaded, match="holds 1 of 2 utterances"):
        ask_while_waiting(service, model, lambda: service.transcribe(model, files(wav(1), wav(2))))


def test_an_answer_that_is_late_is_not_waited_for(model_folder, service_of, waiting_model):
    service = service_of(model_folder)
    service.versions.current = model = waiting_model(model_folder)
    with pytest.raises(Late, match=r"no answer within 0\.05 s"):
        ask_while_waiting(
            service, model, lambda: service.transcribe(model, files(wav(2)), within=0.05)
        )
    assert service.batcher.room.used == 0


def test_the_servers_own_deadline_holds_too(model_folder, service_of, waiting_model):
    gathering = GatheringConfig(deadline_seconds=0.3)
    service = service_of(model_folder, gathering=gathering)
    service.versions.current = model = waiting_model(model_folder)

    async def run():
        async with service:
            with pytest.raises(Late, match=r"within 0\.3 s"):
                await service.transcribe(model, files(wav(1)))
            model.allowed.set()

    asyncio.run(run())


def test_of_several_bad_files_the_first_is_named(model_folder, service_of):
    service = service_of(model_folder)

    async def run():
        async with service:
            await service.transcribe(service.versions.current, files(wav(1), b"no", b"audio"))

    with pytest.raises(InputError, match=r"^file 1: must be an audio file"):
        asyncio.run(run())
    assert service.batcher.room.used == 0
