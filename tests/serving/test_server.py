import base64
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tfasr.audio.decoding import wav_bytes
from tfasr.configs.serving import GatheringConfig, ServeConfig
from tfasr.serving.app import make_app
from tfasr.serving.client import transcribe_url
from tfasr.serving.errors import ServerError
from tfasr.serving.runtime import ServedModel
from tfasr.serving.server import serve, web_server

ROOT = Path(__file__).parents[2]
MODEL = "/v1/models/counting"
PREDICT = f"{MODEL}:predict"
MAX_BYTES = 100_000


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def wav(*samples):
    return wav_bytes(np.array(samples, np.int16), 8000)


WAV = b64(wav(1, 2, 3))


@pytest.fixture(scope="module")
def client(model_folder, service_of):
    limits = {"max_request_bytes": MAX_BYTES, "max_seconds": 2.0, "max_instances": 3}
    with TestClient(make_app(service_of(model_folder, **limits))) as client:
        yield client


@pytest.mark.parametrize("path", [PREDICT, f"{MODEL}/versions/2:predict"])
def test_rows_are_answered_by_predictions(client, path):
    response = client.post(path, json={"instances": [WAV, {"audio": b64(wav(-7))}]})
    assert (response.status_code, response.json()) == (200, {"predictions": ["3 6", "1 -7"]})


def test_columns_are_answered_by_outputs(client):
    response = client.post(PREDICT, json={"inputs": {"audio": [WAV]}})
    assert (response.status_code, response.json()) == (200, {"outputs": ["3 6"]})


def test_waveforms_are_answered(client):
    instance = {"waveforms": [1 / 32768, 2 / 32768, 0], "num_samples": 2}
    body = {"signature_name": "waveforms", "instances": [instance]}
    assert client.post(PREDICT, json=body).json() == {"predictions": ["2 3"]}


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/2"])
def test_status_names_the_version(client, path):
    [status] = client.get(path).json()["model_version_status"]
    assert (status["version"], status["state"]) == ("2", "AVAILABLE")


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/2"])
def test_metadata_has_the_signatures(client, path):
    metadata = client.get(f"{path}/metadata").json()["metadata"]
    assert {"serving_default", "waveforms"} <= set(metadata["signature_def"]["signature_def"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told(client, path):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body must be JSON"),
        (b'{"instances": [', "the body must be JSON"),
        ({"instances": [{"b64": "!!!!"}]}, "instance 0: b64 must be base64"),
        ({"instances": [{"b64": "é"}]}, "instance 0: b64 must be base64"),
        ({"instances": [WAV, "speech"]}, "instance 1: audio must be {"),
        ({"instances": [WAV, b64(b"speech")]}, "instance 1: must be an audio file"),
        ({"instances": [b64(b"")]}, "instance 0: must not be empty"),
        ({"instances": [b64(wav(1, 2, 3)[:-2])]}, "instance 0: must not be cut short"),
        ({"instances": [b64(wav(*[0] * 16001))]}, "instance 0: audio must last at most 2 s"),
        ({"instances": [WAV] * 4}, "must hold 1 to 3 instances; got 4"),
        ({"signature_name": "a\ud800\nb", "instances": [WAV]}, "signature_name must be one of"),
    ],
)
def test_a_bad_request_is_told_why_on_one_line(client, body, message):
    content = body if isinstance(body, bytes) else json.dumps(body)
    response = client.post(PREDICT, content=content)
    assert response.status_code == 400
    assert set(response.json()) == {"error"}
    assert message in response.json()["error"]
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/page", 404),
        ("GET", "/page/../server.py", 404),
        ("GET", "/page/%2e%2e/server.py", 404),
        ("GET", "/v1/models/other", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("GET", f"{MODEL}/versions/1", 404),
        ("POST", f"{MODEL}/versions/{'9' * 5000}:predict", 404),
        ("POST", f"{MODEL}:classify", 404),
        ("GET", PREDICT, 405),
        ("POST", MODEL, 405),
        ("DELETE", "/healthz", 405),
    ],
)
def test_other_paths_and_methods_are_told_as_json(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_the_longest_body_is_read(client):
    response = client.post(PREDICT, content=b" " * MAX_BYTES)
    assert response.status_code == 400


def test_an_announced_body_that_is_too_large_is_refused(client):
    response = client.post(PREDICT, content=b" " * (MAX_BYTES + 1))
    assert response.status_code == 413
    assert response.json()["error"].startswith(f"a request must be at most {MAX_BYTES} bytes")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(WAV),
    lambda value: (
        st.lists(value, max_size=3)
        | st.dictionaries(
            st.sampled_from(["b64", "audio", "waveforms", "num_samples", "x"]), value, max_size=3
        )
    ),
    max_leaves=8,
)
bodies = st.binary(max_size=40) | st.dictionaries(
    st.sampled_from(["signature_name", "instances", "inputs"]),
    values | st.sampled_from(["serving_default", "waveforms"]),
).map(lambda body: json.dumps(body).encode())
files = st.builds(
    lambda at, byte, end: (WAV_BYTES[:at] + bytes([byte]) + WAV_BYTES[at + 1 :])[:end],
    st.integers(0, 48),
    st.integers(0, 255),
    st.integers(0, 50),
)
WAV_BYTES = wav(1, 2, 3)


@settings(max_examples=150, deadline=None)
@given(body=bodies)
def test_no_body_makes_the_server_fail(client, body):
    assert client.post(PREDICT, content=body).status_code in (200, 400)


@settings(max_examples=150, deadline=None)
@given(data=files)
def test_no_damaged_file_makes_the_server_fail(client, data):
    response = client.post(PREDICT, json={"instances": [b64(data)]})
    assert response.status_code in (200, 400)


def test_health_is_told_while_the_model_works(model_folder, service_of, waiting_model):
    service = service_of(model_folder)
    service.versions.current = model = waiting_model(model_folder)
    with TestClient(make_app(service)) as client, ThreadPoolExecutor(1) as caller:
        prediction = caller.submit(client.post, PREDICT, json={"instances": [WAV]})
        assert model.asked.wait(timeout=20)
        assert client.get("/healthz").status_code == 200
        assert not prediction.done()
        model.allowed.set()
        assert prediction.result(timeout=20).json() == {"predictions": ["3 6"]}


def while_the_model_works(app, model, ask):
    """Asks while an utterance is under way, which is answered afterwards."""
    with TestClient(app) as client, ThreadPoolExecutor(1) as caller:
        first = caller.submit(client.post, PREDICT, json={"instances": [WAV]})
        assert model.asked.wait(timeout=20)
        try:
            return ask(client)
        finally:
            model.allowed.set()
            assert first.result(timeout=20).json() == {"predictions": ["3 6"]}


def test_a_full_server_says_when_to_come_again(model_folder, service_of, waiting_model):
    service = service_of(model_folder, max_instances=1, gathering=GatheringConfig(queue=1))
    service.versions.current = model = waiting_model(model_folder)
    response = while_the_model_works(
        make_app(service), model, lambda client: client.post(PREDICT, json={"instances": [WAV]})
    )
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"].startswith("the server is full: it holds 1 of 1 utterances")


def test_an_answer_that_is_late_is_told_as_such(model_folder, service_of, waiting_model):
    service = service_of(model_folder, gathering=GatheringConfig(deadline_seconds=0.2))
    service.versions.current = model = waiting_model(model_folder)
    with TestClient(make_app(service)) as client:
        response = client.post(PREDICT, json={"instances": [WAV]})
        model.allowed.set()
    assert response.status_code == 504
    assert response.json() == {"error": "no answer within 0.2 s; the server is busy"}


def test_a_stop_lets_requests_under_way_end(model_folder, service_of, waiting_model):
    service = service_of(model_folder)
    service.versions.current = model = waiting_model(model_folder)
    server = web_server(service, lifespan="on")
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/counting"
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.run, sockets=[listener])
        asked = pool.submit(transcribe_url, url, [wav(1, 2, 3)])
        assert model.asked.wait(timeout=20)
        server.should_exit = True
        assert not running.done()
        model.allowed.set()
        assert asked.result(timeout=20) == ["3 6"]
        running.result(timeout=20)
    with pytest.raises(ServerError, match="no answer"):
        transcribe_url(url, [wav(1)])


class BrokenModel(ServedModel):
    """Fails for a reason of its own."""

    def answers(self, signature, values):
        if self.is_broken:
            raise RuntimeError("out of order")
        return super().answers(signature, values)

    is_broken = False


def test_a_fault_of_the_server_is_told_as_json_too(model_folder, service_of):
    service = service_of(model_folder)
    service.versions.current = BrokenModel(model_folder)
    service.versions.current.is_broken = True
    with TestClient(make_app(service), raise_server_exceptions=False) as client:
        response = client.post(PREDICT, json={"instances": [WAV]})
    assert response.status_code == 500
    assert list(response.json()) == ["error"]


def test_a_port_in_use_is_told_on_one_line(model_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port must be free; got port={port}, in use"):
            serve(ServeConfig(model=model_folder, port=port))


def test_a_host_that_is_not_ours_is_told_on_one_line(model_folder):
    # 192.0.2.0/24 is set aside for documentation.
    with pytest.raises(ValueError, match=r"cannot listen on host=192\.0\.2\.1"):
        serve(ServeConfig(model=model_folder, host="192.0.2.1"))


@pytest.fixture(scope="module")
def server(model_folder):
    """A server process that is told to stop, with its first line and its model's URL."""
    code = (
        "import sys; from pathlib import Path; from pipelines.serve import run; "
        "from tfasr.configs.serving import ServeConfig; "
        f"run(ServeConfig(model=Path(sys.argv[1]), port=0, max_request_bytes={MAX_BYTES}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(model_folder)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield process, line, line.split("; ")[0].split()[-1]
    finally:
        process.kill()
        process.communicate()


def test_the_first_line_says_what_is_served_where(server):
    _, line, url = server
    root = url.removesuffix("/v1/models/counting")
    assert line == (
        f"serving counting version 2 at {url}; page: {root}/; "
        f"try: curl -F file=@speech.wav {root}/v1/audio/transcriptions\n"
    )


def test_a_server_process_answers_over_its_port(server):
    *_, url = server
    assert transcribe_url(url, [wav(1, 2, 3), wav(4)]) == ["3 6", "1 4"]


def test_a_body_without_a_length_is_refused_once_it_is_too_large(server):
    *_, url = server
    chunks = (b" " * 10_000 for _ in range(1000))
    assert httpx.post(f"{url}:predict", content=chunks).status_code == 413


def test_a_server_process_ends_well_when_told_to_stop(server):
    process, *_ = server
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "")
