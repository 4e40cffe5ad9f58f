import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tfasr.serving.app import make_app
from tfasr.serving.inputs import InputError
from tfasr.serving.rest import model_metadata, model_status, parse_request
from tfasr.serving.versions import VersionState

SIGNATURES = {"serving_default": ("audio",), "waveforms": ("waveforms", "num_samples")}
B64 = {"b64": base64.b64encode(b"sound").decode()}


def parse(body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_request(data, SIGNATURES, max_instances=3)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [B64, B64]},
        {"instances": [{"audio": B64}, B64]},
        {"inputs": [B64, B64]},
        {"inputs": {"audio": [B64, B64]}},
        {"signature_name": "serving_default", "instances": [B64, B64]},
    ],
)
def test_one_input_may_be_named_or_not_in_rows_and_columns(body):
    request = parse(body)
    assert request.signature == "serving_default"
    assert request.rows == [{"audio": B64}, {"audio": B64}]
    assert request.layout in body


def test_columns_of_two_inputs_become_rows():
    inputs = {"waveforms": [[0.5, 0.5], [1.0, 0.0]], "num_samples": [2, 1]}
    request = parse({"signature_name": "waveforms", "inputs": inputs})
    assert request.rows == [
        {"waveforms": [0.5, 0.5], "num_samples": 2},
        {"waveforms": [1.0, 0.0], "num_samples": 1},
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body must be JSON; "),
        (b'{"instances": [', "the body must be JSON; "),
        (b"\xff\xfe\xfd", "the body must be JSON; "),
        (b'{"instances": ' + b"[" * 100_000, "the body must be JSON; it is nested too deep"),
        (b"9" * 5000, "the body must be JSON; "),
        ([B64], "must be a JSON object; got a JSON array of 1"),
        ({}, 'must have either "instances" or "inputs"'),
        ({"instances": [B64], "inputs": [B64]}, 'must have either "instances" or "inputs"'),
        ({"instances": B64}, "instances must be a list; got a JSON object of 1"),
        ({"instances": []}, "must hold 1 to 3 instances; got 0"),
        ({"instances": [B64] * 4}, "must hold 1 to 3 instances; got 4"),
        ({"inputs": B64}, 'inputs must be an object of "audio"'),
        ({"inputs": {"audio": B64}}, "inputs: audio must be a list"),
        ({"signature_name": "nope", "instances": [B64]}, "must be one of .*; got 'nope'"),
        ({"signature_name": ["x"], "instances": [B64]}, "got a JSON array of 1"),
        (
            {"signature_name": "waveforms", "instances": [{"waveforms": [0.5]}]},
            'instance 0: must be an object of "waveforms" and "num_samples"',
        ),
        (
            {"signature_name": "waveforms", "inputs": {"waveforms": [[1]], "num_samples": []}},
            "must have one length; got 1, 0",
        ),
    ],
)
def test_a_body_of_another_form_is_refused_with_its_rule(body, message):
    with pytest.raises(InputError, match=message):
        parse(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=5), value),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["serving_default", "waveforms"]),
    st.sampled_from(["instances", "inputs"]),
    JSON,
)
def test_whatever_is_read_has_the_inputs_of_its_signature(signature, layout, value):
    try:
        request = parse({"signature_name": signature, layout: value})
    except InputError:
        return
    assert all(set(row) == set(SIGNATURES[signature]) for row in request.rows)


def test_features_are_answered_each_with_its_frames(timed_folder, service_of):
    body = {
        "signature_name": "features",
        "instances": [
            {"waveforms": [0.5, -0.25, 0.0], "num_samples": 2},
            {"waveforms": [0.125, 0.0, 0.0], "num_samples": 1},
        ],
    }
    with TestClient(make_app(service_of(timed_folder))) as client:
        answer = client.post("/v1/models/timed:predict", json=body).json()
    assert answer == {
        "predictions": [
            {"features": [[0.5, -0.5], [-0.25, 0.25]], "num_frames": 2},
            {"features": [[0.125, -0.125], [0.0, 0.0]], "num_frames": 1},
        ]
    }


def test_status_is_that_of_tensorflow_serving():
    status = {"error_code": "OK", "error_message": ""}
    assert model_status([VersionState(version=3, state="AVAILABLE")]) == {
        "model_version_status": [{"version": "3", "state": "AVAILABLE", "status": status}]
    }


def test_metadata_is_that_of_tensorflow_serving(model):
    metadata = model_metadata(model)
    assert metadata["model_spec"] == {"name": "counting", "signature_name": "", "version": "2"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["waveforms"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["waveforms"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "-1", "name": ""}],
            "unknown_rank": False,
        },
        "name": "waveforms_waveforms:0",
    }
    assert signature["outputs"]["text"]["dtype"] == "DT_STRING"
