import asyncio
import socket
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfasr.audio.decoding import wav_bytes
from tfasr.configs.serving import GatheringConfig
from tfasr.serving.grpc_server import grpc_server

TOKEN = "0123456789abcdef"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def wav(*samples):
    return wav_bytes(np.array(samples, np.int16), 8000)


@pytest.fixture(scope="module")
def served():
    """Runs services in threads; makes a channel to each."""
    running = []

    def start(service):
        started, stop = threading.Event(), asyncio.Event()
        ports, loops = [], []

        async def run():
            loops.append(asyncio.get_running_loop())
            async with service, grpc_server(service, "127.0.0.1:0") as port:
                ports.append(port)
                started.set()
                await stop.wait()

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        assert started.wait(20)
        channel = grpc.insecure_channel(f"127.0.0.1:{ports[0]}")
        running.append((thread, loops[0], stop, channel))
        return channel

    yield start
    for thread, loop, stop, channel in running:
        channel.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="module")
def channel(timed_folder, service_of, served):
    limits = {"max_request_bytes": 100_000, "max_instances": 3, "max_seconds": 2.0}
    return served(service_of(timed_folder, **limits))


def predict(channel, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "timed"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request, prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def arrays(response):
    return {name: tf.make_ndarray(proto).tolist() for name, proto in response.outputs.items()}


def test_files_are_answered_by_all_that_the_model_gives(channel):
    request, ask = predict(channel, audio=np.array([wav(1, 2, 3), wav(7)], object))
    response = ask(request, timeout=20)
    assert response.model_spec.version.value == 1
    outputs = arrays(response)
    assert outputs["text"] == [b"3 6", b"1 7"]
    assert outputs["tokens"] == [[3, 6], [1, 7]]
    assert outputs["starts"] == [[0.0, 0.5], [0.0, 0.5]]
    assert outputs["score"] == [-2.0, -2.0]


def test_waveforms_are_answered_and_outputs_can_be_chosen(channel):
    request, ask = predict(
        channel,
        waveforms=np.array([[1, 2, 0]], np.float32) / 32768,
        num_samples=np.array([2], np.int32),
    )
    request.model_spec.signature_name = "waveforms"
    request.model_spec.version.value = 1
    request.output_filter.append("text")
    assert arrays(ask(request, timeout=20)) == {"text": [b"2 3"]}


def test_metadata_has_the_signatures(channel):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "timed"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "waveforms"} <= set(signatures.signature_def)


def test_status_names_the_version(channel):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "timed"
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    [status] = stub.GetModelStatus(request, timeout=20).model_version_status
    assert (status.version, status.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


def failure(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert "\n" not in error.value.details()
    return error.value.code().name, error.value.details()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda r: r.inputs.clear(), "INVALID_ARGUMENT", "inputs must be audio; got ''"),
        (lambda r: r.inputs["x"].SetInParent(), "INVALID_ARGUMENT", "inputs must be audio"),
        (lambda r: r.inputs["audio"].Clear(), "INVALID_ARGUMENT", "must be of dtype string"),
        (
            lambda r: r.inputs["audio"].CopyFrom(tf.make_tensor_proto([b"speech"])),
            "INVALID_ARGUMENT",
            "instance 0: must be an audio file",
        ),
        (
            lambda r: r.inputs["audio"].CopyFrom(tf.make_tensor_proto([wav(1)] * 4)),
            "INVALID_ARGUMENT",
            "must hold 1 to 3 instances; got 4",
        ),
        (lambda r: r.output_filter.append("x"), "INVALID_ARGUMENT", "output_filter must be of"),
        (
            lambda r: setattr(r.model_spec, "signature_name", "x"),
            "INVALID_ARGUMENT",
            "signature_name must be one of serving_default, waveforms, features; got 'x'",
        ),
        (lambda r: setattr(r.model_spec, "name", "x"), "NOT_FOUND", "no model 'x'"),
        (lambda r: setattr(r.model_spec.version, "value", 9), "NOT_FOUND", "no version 9"),
        (lambda r: setattr(r.model_spec, "version_label", "x"), "NOT_FOUND", "no version label"),
        (
            lambda r: r.inputs["audio"].CopyFrom(tf.make_tensor_proto([b"x" * 200_000])),
            "RESOURCE_EXHAUSTED",
            "larger than max",
        ),
    ],
)
def test_a_bad_request_has_its_code_and_a_reason(channel, change, code, message):
    request, ask = predict(channel, audio=np.array([wav(1)], object))
    change(request)
    found, reason = failure(lambda: ask(request, timeout=20))
    assert found == code
    assert message in reason


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=60)
    | st.builds(
        lambda head, tail: head + tail,
        st.just(b"\x0a\x07\x0a\x05timed"),
        st.binary(max_size=30),
    )
)
def test_no_message_makes_the_server_fail(channel, data):
    code, _ = failure(lambda: channel.unary_unary(PREDICT)(data, timeout=20))
    assert code in ("INVALID_ARGUMENT", "NOT_FOUND")


def test_a_deadline_that_passes_and_a_full_queue_have_their_codes(
    timed_folder, service_of, waiting_model, served
):
    service = service_of(timed_folder, max_instances=1, gathering=GatheringConfig(queue=1))
    service.versions.current = model = waiting_model(timed_folder)
    request, ask = predict(served(service), audio=np.array([wav(1)], object))
    first = ask.future(request, timeout=20)
    assert model.asked.wait(20)
    code, reason = failure(lambda: ask(request, timeout=20))
    assert (code, reason[:30]) == ("UNAVAILABLE", "the server is full: it holds 1")
    model.allowed.set()
    assert arrays(first.result())["text"] == [b"1 1"]
    model.allowed.clear()
    assert failure(lambda: ask(request, timeout=0.3))[0] == "DEADLINE_EXCEEDED"
    model.allowed.set()


def test_the_token_is_asked_for(timed_folder, service_of, served, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    request, ask = predict(
        served(service_of(timed_folder, token_file=tmp_path / "token")),
        audio=np.array([wav(1)], object),
    )
    assert failure(lambda: ask(request, timeout=20))[0] == "UNAUTHENTICATED"
    metadata = [("authorization", f"Bearer {TOKEN}")]
    assert arrays(ask(request, timeout=20, metadata=metadata))["text"] == [b"1 1"]


def test_a_port_in_use_is_told_on_one_line(timed_folder, service_of):
    async def run(port):
        service = service_of(timed_folder)
        async with service, grpc_server(service, f"127.0.0.1:{port}"):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"grpc_port must be free; got 127.0.0.1:{port}"):
            asyncio.run(run(port))
