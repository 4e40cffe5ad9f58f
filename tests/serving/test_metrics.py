import base64

import numpy as np
from starlette.testclient import TestClient

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.app import make_app

PREDICT = "/v1/models/counting:predict"


def counts(client):
    lines = client.get("/metrics").text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_requests_batches_and_audio_are_counted(model_folder, service_of):
    audio = wav_bytes(np.zeros(4000, np.int16), 8000)
    instances = [{"b64": base64.b64encode(audio).decode()}] * 2
    with TestClient(make_app(service_of(model_folder))) as client:
        client.post(PREDICT, json={"instances": instances})
        client.post(PREDICT, content=b"no JSON")
        client.get("/no/such/path")
        client.get(f"{PREDICT}")
        after = counts(client)
    path = f'path="{PREDICT}"'
    assert after[f'tfasr_requests_total{{{path},status="200"}}'] == "1.0"
    assert after[f'tfasr_requests_total{{{path},status="400"}}'] == "1.0"
    assert after['tfasr_requests_total{path="other",status="404"}'] == "1.0"
    assert after['tfasr_requests_total{path="other",status="405"}'] == "1.0"
    assert after[f"tfasr_request_seconds_count{{{path}}}"] == "2.0"
    assert after["tfasr_audio_seconds_total"] == "1.0"
    assert after["tfasr_batch_utterances_sum"] == "2.0"
    assert after["tfasr_queue_utterances"] == "0.0"
    assert after["tfasr_model_version"] == "2.0"


def test_the_format_is_the_one_that_prometheus_asks_for(model_folder, service_of):
    with TestClient(make_app(service_of(model_folder))) as client:
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE tfasr_requests_total counter" in response.text
