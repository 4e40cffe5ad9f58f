from pathlib import Path

import pytest

from tfasr.configs.serving import GatheringConfig, ServeConfig, TranscribeConfig

MODEL = Path("saved_models/demo")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 65536}, r"port must be in \[0, 65535\]; got port=65536"),
        ({"grpc_port": -1}, r"grpc_port must be in \[0, 65535\]; got grpc_port=-1"),
        ({"host": ""}, "host must not be empty"),
        ({"max_seconds": 0.0}, "max_seconds must be positive; got max_seconds=0.0"),
        ({"max_seconds": float("nan")}, "max_seconds must be positive; got max_seconds=nan"),
        ({"max_instances": 0}, "max_instances must be positive; got max_instances=0"),
        ({"max_request_bytes": -1}, "max_request_bytes must be positive"),
        ({"max_streams": 0}, "max_streams must be positive"),
        ({"max_stream_seconds": 0.0}, "max_stream_seconds must be positive"),
        ({"read_seconds": 0.0}, "read_seconds must be positive"),
        ({"poll_seconds": 0.0}, "poll_seconds must be positive"),
    ],
)
def test_serve_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ServeConfig(model=MODEL, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch": 0}, r"gathering\.max_batch must be positive; got gathering\.max_batch=0"),
        ({"queue": 0}, r"gathering\.queue must be positive"),
        ({"deadline_seconds": float("nan")}, r"gathering\.deadline_seconds must be positive"),
        ({"delay_seconds": -0.1}, r"gathering\.delay_seconds must be in \[0, gathering"),
        ({"delay_seconds": 2.0, "deadline_seconds": 2.0}, "delay_seconds=2.0"),
    ],
)
def test_gathering_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GatheringConfig(**settings)


def test_a_request_must_fit_into_the_queue():
    with pytest.raises(ValueError, match=r"max_instances=32, gathering\.queue=31"):
        ServeConfig(model=MODEL, gathering=GatheringConfig(queue=31))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either model or url; got model=None, url=''"),
        ({"model": MODEL, "url": "http://h/v1/models/demo"}, "give either model or url"),
        ({"url": "http://h:8501"}, "url must be http://HOST:PORT/v1/models/NAME"),
        ({"url": "http://h/v1/models/demo:predict"}, "url must be http://HOST:PORT"),
        ({"model": MODEL, "token_file": Path("t")}, "token_file is for url only"),
        ({"model": MODEL, "files": ()}, "files must name at least one"),
        ({"model": MODEL, "max_seconds": -1.0}, "max_seconds must be positive, or 0"),
    ],
)
def test_transcribe_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TranscribeConfig(**{"files": (Path("a.wav"),), **settings})


@pytest.mark.parametrize("tail", ["", "/versions/12"])
def test_a_url_names_a_model_or_one_of_its_versions(tail):
    url = f"https://host:8501/v1/models/demo{tail}"
    assert TranscribeConfig(url=url, files=(Path("a.wav"),)).url == url
