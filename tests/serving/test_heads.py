"""What only a connection of its own can do wrong."""

import contextlib
import socket
import threading

import httpx
import numpy as np
import pytest

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.client import transcribe_url

PREDICT = b"POST /v1/models/counting:predict HTTP/1.1\r\nHost: x\r\n"
WAV = wav_bytes(np.array([1, 2, 3], np.int16), 8000)


@pytest.fixture(scope="module")
def port(model_folder, service_of, listening):
    return listening(service_of(model_folder, read_seconds=0.3))


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def received(client):
    """Reads until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(4096):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("sent", [b"", b"GET", PREDICT, PREDICT + b"Content-Length: 1"])
def test_a_head_that_does_not_end_is_not_waited_for(port, sent):
    with connect(port) as client:
        client.sendall(sent)
        assert received(client) == b""


def test_a_second_head_that_does_not_end_is_not_waited_for(port):
    with connect(port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /heal")
        rest = received(client)
        assert b"HTTP/1.1" not in rest


def test_a_head_that_comes_drop_by_drop_is_not_waited_for(port):
    stopped = threading.Event()
    with connect(port) as client:

        def drip():
            with contextlib.suppress(OSError):
                while not stopped.wait(0.02):
                    client.sendall(b"x")

        client.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert received(client) == b""
        finally:
            stopped.set()
            dripping.join()


def test_a_body_that_comes_too_slowly_is_told_so(port):
    with connect(port) as client:
        client.sendall(PREDICT + b"Content-Length: 100\r\n\r\n{")
        answer = received(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"must arrive within 0.3 s" in answer


@pytest.mark.parametrize("sent", [b"\0\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01" * 9])
def test_what_is_no_http_is_refused(port, sent):
    with connect(port) as client:
        client.sendall(sent + b"\r\n\r\n")
        assert received(client).startswith(b"HTTP/1.1 400 ")


def test_the_server_answers_beside_idle_and_broken_connections(port):
    url = f"http://127.0.0.1:{port}/v1/models/counting"
    with contextlib.ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(connect(port))
            if number % 3 == 0:
                client.sendall(PREDICT + b"Content-Length: 100\r\n\r\n{")
            if number % 6 == 0:
                client.close()
        assert transcribe_url(url, [WAV]) == ["3 6"]
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
