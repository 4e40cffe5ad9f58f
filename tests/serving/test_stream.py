import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tfasr.configs.seeds import counted_generator
from tfasr.serving.app import make_app
from tfasr.serving.runtime import ServedModel
from tfasr.serving.server import web_server

PATH = "/v1/audio/stream"
END = json.dumps({"end": True})
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def client(streaming_folder, service_of):
    limits = {"max_stream_seconds": 0.1, "max_streams": 8, "read_seconds": 5.0}
    with TestClient(make_app(service_of(streaming_folder, **limits))) as client:
        yield client


def noise(seed, count):
    return counted_generator(seed, "stream").integers(-100, 100, count).astype("<i2")


def stream(client, pcm, size):
    """Sends PCM in frames of so many bytes; gives all answers."""
    with client.websocket_connect(PATH) as socket:
        answers = [socket.receive_json()]
        for start in range(0, len(pcm), size):
            socket.send_bytes(pcm[start : start + size])
        socket.send_text(END)
        while answers[-1]["type"] != "final":
            answers.append(socket.receive_json())
        return answers


@pytest.mark.parametrize("size", [1, 7, 80, 1000])
def test_the_text_does_not_depend_on_the_frames_it_came_in(client, size):
    samples = noise(0, 333)
    answers = stream(client, samples.tobytes(), size)
    assert answers[0] == {"type": "ready", "sample_rate": 8000, "model": "streaming", "version": 1}
    assert answers[-1] == {
        "type": "final",
        "text": f"333 {samples.sum()}",
        "seconds": pytest.approx(333 / 8000),
    }
    partials = [answer["text"] for answer in answers if answer["type"] == "partial"]
    assert partials[0] == f"30 {samples[:30].sum()}"
    assert partials[3] == f"120 {samples[:120].sum()}"


@pytest.mark.parametrize("count", [0, 1, 39, 40, 41, 70])
def test_the_end_of_a_stream_is_heard_to_its_last_sample(client, count):
    samples = noise(1, count)
    text = f"{count} {samples.sum()}" if count else ""
    assert stream(client, samples.tobytes(), 64)[-1]["text"] == text


def test_streams_side_by_side_are_not_mixed_up(client):
    samples = [noise(seed, 300 + seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        ends = pool.map(lambda each: stream(client, each.tobytes(), 100)[-1]["text"], samples)
    assert list(ends) == [f"{len(each)} {each.sum()}" for each in samples]


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        (["hello"], 1008, "a text frame must be {\"end\": true}; got 'hello'"),
        (["[" * 100_000], 1008, "a text frame must be"),
        ([b"abc", END], 1008, "the stream ends in half of one"),
        ([bytes(2 * 801)], 1009, "a stream must last at most 0.1 s"),
    ],
)
def test_a_stream_that_breaks_a_rule_is_closed_with_the_reason(client, frames, code, reason):
    with client.websocket_connect(PATH) as socket:
        assert socket.receive_json()["type"] == "ready"
        for frame in frames:
            (socket.send_text if isinstance(frame, str) else socket.send_bytes)(frame)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == code
    assert reason in closed.value.reason


@settings(max_examples=40, deadline=None)
@given(
    frames=st.lists(
        st.binary(max_size=90) | st.text(max_size=5) | st.sampled_from([END, "{}", "null"]),
        max_size=5,
    )
)
def test_no_frames_make_the_server_fail(client, frames):
    with client.websocket_connect(PATH) as socket:
        answers = [socket.receive_json()]
        for frame in frames:
            (socket.send_text if isinstance(frame, str) else socket.send_bytes)(frame)
        socket.send_text(END)
        with pytest.raises(WebSocketDisconnect) as closed:
            answers += iter(socket.receive_json, None)
    assert closed.value.code in (1000, 1008, 1009)


def test_a_stream_that_is_cut_gives_its_place_back(client):
    for _ in range(20):
        with client.websocket_connect(PATH) as socket:
            socket.receive_json()
            socket.send_bytes(bytes(30))
    assert stream(client, bytes(80), 80)[-1]["text"] == "40 0"


def first(client, **settings):
    with client.websocket_connect(PATH, **settings) as socket:
        return socket.receive_json()


def test_a_model_without_steps_closes_with_a_reason(model_folder, service_of):
    with TestClient(make_app(service_of(model_folder))) as client:
        with pytest.raises(WebSocketDisconnect) as closed:
            first(client)
    assert closed.value.code == 1008
    assert closed.value.reason == "counting hears whole recordings only, no streams"


def test_streams_beyond_the_limit_are_told_to_come_later(streaming_folder, service_of):
    with TestClient(make_app(service_of(streaming_folder, max_streams=1))) as client:
        with client.websocket_connect(PATH) as socket:
            socket.receive_json()
            with pytest.raises(WebSocketDisconnect) as closed:
                first(client)
    assert closed.value.code == 1013
    assert "holds 1 of 1 streams" in closed.value.reason


def test_a_silent_client_is_not_waited_for(streaming_folder, service_of):
    with TestClient(make_app(service_of(streaming_folder, read_seconds=0.05))) as client:
        with client.websocket_connect(PATH) as socket:
            socket.receive_json()
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
    assert closed.value.reason == "no audio came within 0.05 s"


def test_a_token_may_come_as_a_subprotocol(streaming_folder, service_of, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    service = service_of(streaming_folder, token_file=tmp_path / "token")
    with TestClient(make_app(service)) as client:
        for refused in ({}, {"subprotocols": ["tfasr", "bearer.0123456789abcdee"]}):
            with pytest.raises(WebSocketDisconnect):
                first(client, **refused)
        with client.websocket_connect(PATH, subprotocols=["tfasr", f"bearer.{TOKEN}"]) as socket:
            assert socket.accepted_subprotocol == "tfasr"
            assert socket.receive_json()["type"] == "ready"


@pytest.mark.parametrize(
    "window", [None, [], {"samples": 40}, {"samples": 40, "shift": 41}, {"samples": 40, "shift": 0}]
)
def test_a_stream_without_its_window_is_not_as_exported(streaming_folder, tmp_path, window):
    shutil.copytree(streaming_folder, tmp_path / "demo")
    facts = {"sample_rate": 8000, "window": window}
    (tmp_path / "demo/1/export.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"stream_step must have its window in export\.json"):
        ServedModel(tmp_path / "demo")


def test_a_whole_stream_is_one_of_int16(client):
    samples = np.array([-32768, 32767], "<i2")
    assert stream(client, samples.tobytes(), 4)[-1]["text"] == "2 -1"


@pytest.fixture
def stopped(streaming_folder, service_of):
    """A server that runs, and how to tell it to stop."""
    service = service_of(streaming_folder, stop_seconds=1, max_stream_seconds=1)
    server = web_server(service, lifespan="on")
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def stop():
        server.should_exit = True

    yield f"ws://127.0.0.1:{listener.getsockname()[1]}{PATH}", stop
    stop()
    thread.join()


def said(answers):
    return [answer["text"] for answer in map(json.loads, answers) if answer["type"] == "final"]


def test_a_stopped_server_hears_a_stream_to_its_end(stopped):
    url, stop = stopped
    samples = noise(2, 70)
    with connect(url) as client:
        client.send(samples[:33].tobytes())
        assert json.loads(client.recv())["type"] == "ready"
        stop()
        client.send(samples[33:].tobytes())
        client.send(END)
        assert said(client) == [f"70 {samples.sum()}"]
    assert client.close_code == 1000


def test_a_stopped_server_gives_a_stream_that_goes_on_its_last_words(stopped):
    url, stop = stopped
    samples = noise(3, 70)
    with connect(url) as client:
        client.send(samples.tobytes())
        assert json.loads(client.recv())["type"] == "ready"
        stop()
        answers = [client.recv(timeout=20)]
        while json.loads(answers[-1])["type"] != "final":
            answers.append(client.recv(timeout=20))
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=20)
    assert said(answers) == [f"70 {samples.sum()}"]
    assert (client.close_code, client.close_reason) == (
        1012,
        "the server stops; go on with a new stream",
    )
