import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.app import make_app

PATH = "/v1/audio/transcriptions"
WAV = wav_bytes(np.array([1, 2, 3], np.int16), 8000)
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def client(timed_folder, service_of):
    with TestClient(make_app(service_of(timed_folder, max_request_bytes=50_000))) as client:
        yield client


def ask(client, data=WAV, **fields):
    return client.post(PATH, files={"file": ("speech.wav", data)}, data=fields)


def test_an_upload_is_answered_by_its_text(client):
    response = ask(client, model="timed", language="en", temperature="0")
    assert (response.status_code, response.json()) == (200, {"text": "3 6"})


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("text", "3 6\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:01,000\n3 6\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n3 6\n"),
    ],
)
def test_the_other_forms_are_plain_text(client, form, text):
    response = ask(client, response_format=form)
    assert response.text == text
    assert response.status_code == 200


def test_verbose_json_has_the_times_of_words(client):
    value = ask(client, response_format="verbose_json").json()
    assert value["words"] == [
        {"word": "3", "start": 0.0, "end": 0.5},
        {"word": "6", "start": 0.5, "end": 1.0},
    ]
    assert value["duration"] == pytest.approx(3 / 8000, abs=5e-4)


def test_the_model_is_listed(client):
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["timed"]


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "whisper-1"}, 404, "this server has /v1/models/timed"),
        ({"response_format": "docx"}, 400, "must be one of json, text, srt, verbose_json, vtt"),
        ({"stream": "true"}, 400, "a field must be one of file, model, .*; got 'stream'"),
    ],
)
def test_what_is_not_served_is_refused_by_name(client, fields, status, message):
    response = ask(client, **fields)
    assert response.status_code == status
    assert re.search(message, response.json()["error"]["message"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"speech", "file: must be an audio file"),
        (b"", "file: must not be empty"),
        (WAV[:-2], "file: must not be cut short"),
    ],
)
def test_what_is_no_audio_is_refused_in_the_words_of_the_interface(client, data, message):
    response = ask(client, data)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["message"].startswith(message)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"", "must be multipart/form-data; got ''"),
        ({"content-type": "application/json"}, b"{}", "got 'application/json'"),
        ({"content-type": "multipart/form-data"}, HEAD, "Missing boundary"),
        (MULTIPART, b"no part", "must be multipart/form-data; "),
        (MULTIPART, b"", 'must have one whole part "file"'),
        (MULTIPART, HEAD + WAV, 'must have one whole part "file"'),
        (MULTIPART, b"--x\r\nA: b\r\n\r\nc\r\n--x--\r\n", "must be multipart/form-data; "),
    ],
)
def test_what_is_no_upload_is_refused(client, headers, body, message):
    response = client.post(PATH, content=body, headers=headers)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_an_upload_that_is_too_large_is_refused(client):
    assert ask(client, b"\0" * 60_000).status_code == 413


@settings(max_examples=60, deadline=None)
@given(
    body=st.lists(
        st.sampled_from([HEAD, WAV, b"--x", b"--x--", b"\r\n", b'name="model"', b"\xff"])
        | st.binary(max_size=8),
        max_size=6,
    ).map(b"".join)
)
def test_no_upload_makes_the_server_fail(client, body):
    response = client.post(PATH, content=body, headers=MULTIPART)
    assert response.status_code in (200, 400)
    if response.status_code == 400:
        assert "\n" not in json.loads(response.text)["error"]["message"]
