import asyncio
import base64
import contextlib
import json

import pytest

load = pytest.importorskip(
    "benchmarks.serving_load",
    reason="benchmarks are importable from the repository's own folder only",
)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(f"sound {number}".encode())
    (tmp_path / "texts.json").write_text(json.dumps(["sound 0", "sound 1", "something else"]))
    return tmp_path


async def answer(reader, writer):
    """Answers with the audio itself for its text, and refuses "sound 1"."""
    with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length:")[2].partition(b"\r\n")[0])
            [instance] = json.loads(await reader.readexactly(length))["instances"]
            said = base64.b64decode(instance["b64"]).decode()
            status = "503 Busy" if said == "sound 1" else "200 OK"
            body = json.dumps({"predictions": [{"text": said}]}).encode()
            end = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(end.encode() + body)


def asked(folder, **order):
    async def run():
        connections = []

        async def serve(reader, writer):
            connections.append(asyncio.current_task())
            await answer(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            found = await load._run(load.utterances_of(folder, "m"), {"port": port, **order})
            await asyncio.gather(*connections)
            return found

    return asyncio.run(run())


@pytest.mark.parametrize("order", [{}, {"rate": 1000}])
def test_what_was_refused_and_what_was_another_s_is_counted(folder, order, capsys):
    # Of nine requests three are refused, and three answered with a text that is not theirs.
    found = asked(folder, clients=2, requests=9, **order)
    assert found["wrong"] == 6
    assert len(found["latencies"]) == 9
    assert min(found["latencies"]) > 0
    assert capsys.readouterr().err.count("request") == 3


def test_a_request_asks_for_the_model_by_its_name(folder):
    [first, *_] = load.utterances_of(folder, "digits")
    assert first.request.startswith(b"POST /v1/models/digits:predict HTTP/1.1\r\n")
    assert first.text == "sound 0"
