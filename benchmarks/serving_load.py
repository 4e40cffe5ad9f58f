"""Sends requests to a server from a process of its own, and says how it answered.

Needs little of the processor, since it runs beside what it measures: requests are made beforehand,
and sent over connections that stay. `python -m benchmarks.serving_load FOLDER MODEL` reads a line
of JSON for each run, {"port": .., "clients": .., "requests": ..} of clients that ask again as soon
as they are answered, or with "rate" (a second) of clients that come at random, whoever else is
there; it prints a line of JSON: the seconds, the latencies, and how many answers were lost or
another's. FOLDER holds N.wav and texts.json; MODEL is the name of what is served.
"""

import asyncio
import base64
import json
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfasr.configs.seeds import counted_generator

_IDLE_SECONDS = 2  # Well below those after which servers close a connection that says nothing.


@dataclass(frozen=True)
class Utterance:
    """A request as it goes over the wire, and the text that must come back."""

    request: bytes
    text: str


class Connection:
    """A connection to the server that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.used = asyncio.get_running_loop().time()

    async def text_of(self, request: bytes) -> str:
        """Sends a request; gives the text in the answer.

        Raises:
            ValueError: The server refused it.
        """
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = json.loads(await self.reader.readexactly(length))
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(body)
        return str(body["predictions"][0]["text"])


def utterances_of(folder: Path, model: str) -> list[Utterance]:
    """Reads what is sent: a request for each text of `texts.json`."""
    texts = json.loads((folder / "texts.json").read_text())
    return [
        Utterance(_request((folder / f"{number}.wav").read_bytes(), model), text)
        for number, text in enumerate(texts)
    ]


def _request(wav: bytes, model: str) -> bytes:
    instance = {"b64": base64.b64encode(wav).decode()}
    body = json.dumps({"instances": [instance]}).encode()
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


class Load:
    """What is sent in one run, and what came of it.

    Args:
        utterances: Sent in turn.
        port: Of the server, on this machine.
    """

    def __init__(self, utterances: Sequence[Utterance], port: int) -> None:
        self.utterances = utterances
        self.port = port
        self.latencies: list[float] = []
        self.wrong = 0

    async def closed(self, clients: int, requests: int) -> None:
        """Asks with so many clients, each of which waits for its answer."""
        connections = await asyncio.gather(*(self._connect() for _ in range(clients)))
        numbers = iter(range(requests))

        async def ask(connection: Connection) -> None:
            for number in numbers:
                await self._ask(connection, number, asyncio.get_running_loop().time())

        await asyncio.gather(*map(ask, connections))
        _close(connections)

    async def open(self, rate: float, clients: int, requests: int) -> None:
        """Asks at random times, so many a second; a latency counts from when it was due.

        Args:
            rate: Requests a second, on average.
            clients: Connections that are open at the start; there are more where all are busy.
            requests: How many.
        """
        loop = asyncio.get_running_loop()
        idle = deque(await asyncio.gather(*(self._connect() for _ in range(clients))))
        waits = counted_generator(0, "benchmarks.serving_load").exponential(1 / rate, requests)

        async def ask(number: int, due: float) -> None:
            while idle and loop.time() - idle[-1].used > _IDLE_SECONDS:
                idle.pop().writer.close()
            connection = idle.pop() if idle else await self._connect()
            await self._ask(connection, number, due)
            connection.used = loop.time()
            idle.append(connection)

        asked, due = [], loop.time()
        for number, wait in enumerate(waits.tolist()):
            due += wait
            await asyncio.sleep(due - loop.time())
            asked.append(asyncio.create_task(ask(number, due)))
        await asyncio.gather(*asked)
        _close(idle)

    async def _connect(self) -> Connection:
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))

    async def _ask(self, connection: Connection, number: int, due: float) -> None:
        utterance = self.utterances[number % len(self.utterances)]
        try:
            text = await connection.text_of(utterance.request)
        except (OSError, EOFError, ValueError) as error:
            print(f"request {number}: {error}", file=sys.stderr)
            text = None
        self.wrong += text != utterance.text
        self.latencies.append(asyncio.get_running_loop().time() - due)


def _close(connections: Any) -> None:
    for connection in connections:
        connection.writer.close()


async def _run(utterances: Sequence[Utterance], order: dict[str, Any]) -> dict[str, Any]:
    load, loop = Load(utterances, order["port"]), asyncio.get_running_loop()
    started = loop.time()
    if "rate" in order:
        await load.open(order["rate"], order["clients"], order["requests"])
    else:
        await load.closed(order["clients"], order["requests"])
    seconds = loop.time() - started
    return {"seconds": seconds, "latencies": load.latencies, "wrong": load.wrong}


def main() -> None:
    """Answers each line of the standard input."""
    folder, model = Path(sys.argv[1]), sys.argv[2]
    utterances = utterances_of(folder, model)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(_run(utterances, json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
