"""TensorFlow Serving's gRPC: PredictionService and ModelService."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from tfasr.serving.answers import join_answers
from tfasr.serving.errors import Late, Overloaded
from tfasr.serving.inputs import InputError, one_line, shown
from tfasr.serving.runtime import AUDIO, ServedModel
from tfasr.serving.service import Service
from tfasr.serving.tensors import audio_of, waveforms_of
from tfasr.serving.token import REFUSAL, is_bearer

_LOG = logging.getLogger(__name__)
_STATE = get_model_status_pb2.ModelVersionStatus.State
# Above the request's own bytes: names, shapes and tags.
_MESSAGE_SLACK = 4096
_INTERNAL = "the server failed on this request; its log says why"

Answer = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Message]]


class NotServed(LookupError):
    """The request is for a model, a version or a method that is not served."""


@asynccontextmanager
async def grpc_server(service: Service, address: str) -> AsyncIterator[int]:
    """Serves while the block runs, then lets requests under way end.

    Args:
        service: What answers; it is entered already.
        address: HOST:PORT; port 0 takes any free one.

    Yields:
        The port.

    Raises:
        ValueError: The port can't be taken.
    """
    limit = service.config.max_request_bytes + _MESSAGE_SLACK
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            # Else two servers could take one port, and share its clients.
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers(_Methods(service).handlers())
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise ValueError(f"grpc_port must be free; got {address}, in use") from None
    await server.start()
    try:
        yield port
    finally:
        await server.stop(service.config.stop_seconds)


class _Methods:
    """Answers each method.

    Args:
        service: What answers.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Makes the handlers of both services."""
        services = {
            "tensorflow.serving.PredictionService": {
                "Predict": (predict_pb2.PredictRequest, self.predict),
                "GetModelMetadata": (
                    get_model_metadata_pb2.GetModelMetadataRequest,
                    self.get_model_metadata,
                ),
            },
            "tensorflow.serving.ModelService": {
                "GetModelStatus": (
                    get_model_status_pb2.GetModelStatusRequest,
                    self.get_model_status,
                ),
            },
        }
        return tuple(
            grpc.method_handlers_generic_handler(
                name,
                {
                    method: self._handler(f"/{name}/{method}", *how)
                    for method, how in methods.items()
                },
            )
            for name, methods in services.items()
        )

    def _handler(self, path: str, kind: type[Message], answer: Answer) -> grpc.RpcMethodHandler:
        async def handle(data: bytes, context: grpc.aio.ServicerContext) -> Message:
            clock = asyncio.get_running_loop().time
            start = clock()
            status = grpc.StatusCode.CANCELLED
            try:
                result, status, reason = await self._answered(kind, answer, data, context)
            finally:
                self.service.metrics.request(path, status.name, clock() - start)
            if result is None:
                await context.abort(status, reason)
            return result

        # The bytes are read by `handle`, since gRPC calls a malformed message an internal error.
        return grpc.unary_unary_rpc_method_handler(
            handle, response_serializer=lambda message: message.SerializeToString()
        )

    async def _answered(
        self, kind: type[Message], answer: Answer, data: bytes, context: grpc.aio.ServicerContext
    ) -> tuple[Message | None, grpc.StatusCode, str]:
        code = grpc.StatusCode
        if self.service.token and not is_bearer(_authorization(context), self.service.token):
            return None, code.UNAUTHENTICATED, REFUSAL
        try:
            with self.service.bodies.held(len(data)):
                return await answer(kind.FromString(data), context), code.OK, ""
        except (InputError, DecodeError) as error:
            return None, code.INVALID_ARGUMENT, one_line(str(error))
        except NotServed as error:
            return None, code.NOT_FOUND, str(error)
        except Overloaded as error:
            context.set_trailing_metadata([("retry-after", str(error.retry_after))])
            return None, code.UNAVAILABLE, str(error)
        except Late as error:
            return None, code.DEADLINE_EXCEEDED, str(error)
        except Exception:
            _LOG.exception("a request failed")
            return None, code.INTERNAL, _INTERNAL

    async def predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> Message:
        """Answers Predict."""
        model = self._model(request.model_spec)
        signature = request.model_spec.signature_name or AUDIO
        if signature not in model.signatures:
            raise InputError(
                f"signature_name must be one of {', '.join(model.signatures)}; "
                f"got {shown(signature)}"
            )
        if set(request.inputs) != set(model.signatures[signature]):
            raise InputError(
                f"inputs must be {' and '.join(model.signatures[signature])}; "
                f"got {shown(', '.join(request.inputs))}"
            )
        remaining = context.time_remaining()
        within = math.inf if remaining is None else remaining
        if signature == AUDIO:
            audio = audio_of(request.inputs)
            self._check_number(len(audio))
            files = [(f"instance {index}", data) for index, data in enumerate(audio)]
            heard = await self.service.transcribe(model, files, within=within)
        else:
            waveforms = await self.service.in_thread(
                waveforms_of, request.inputs, model.sample_rate, model.max_seconds
            )
            self._check_number(len(waveforms))
            heard = await self.service.transcribe_waveforms(
                model, waveforms, signature=signature, within=within
            )
        columns = join_answers([each.answer for each in heard])
        asked = list(request.output_filter) or list(columns)
        for name in asked:
            if name not in columns:
                raise InputError(
                    f"output_filter must be of {', '.join(columns)}; got {shown(name)}"
                )
        outputs = {name: tf.make_tensor_proto(columns[name]) for name in asked}
        return predict_pb2.PredictResponse(model_spec=_spec(model, signature), outputs=outputs)

    async def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> Message:
        """Answers GetModelMetadata."""
        model = self._model(request.model_spec)
        if list(request.metadata_field) != ["signature_def"]:
            raise InputError(
                "metadata_field must be signature_def; "
                f"got {shown(', '.join(request.metadata_field))}"
            )
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_spec(model, ""))
        response.metadata["signature_def"].Pack(signatures)
        return response

    async def get_model_status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> Message:
        """Answers GetModelStatus."""
        model = self._model(request.model_spec)
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in self.service.versions.states():
            if request.model_spec.HasField("version") and state.version != model.version:
                continue
            status = response.model_version_status.add(
                version=state.version, state=_STATE.Value(state.state)
            )
            status.status.error_code = 2 if state.reason else 0  # UNKNOWN or OK.
            status.status.error_message = state.reason
        return response

    def _model(self, spec: model_pb2.ModelSpec) -> ServedModel:
        model = self.service.versions.current
        served = f"this server has {model.name} (version {model.version})"
        if spec.name != model.name:
            raise NotServed(f"no model {shown(spec.name)}; {served}")
        if spec.HasField("version_label"):
            raise NotServed(f"no version label {shown(spec.version_label)}; {served}")
        if spec.HasField("version") and spec.version.value != model.version:
            raise NotServed(f"no version {spec.version.value}; {served}")
        return model

    def _check_number(self, number: int) -> None:
        if not 1 <= number <= self.service.config.max_instances:
            raise InputError(
                f"a request must hold 1 to {self.service.config.max_instances} instances; "
                f"got {number}"
            )


def _authorization(context: grpc.aio.ServicerContext) -> str:
    values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    return str(values[0]) if values else ""


def _spec(model: ServedModel, signature: str) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    spec.version.value = model.version
    return spec
