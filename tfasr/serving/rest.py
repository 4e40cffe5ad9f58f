"""The JSON of TensorFlow Serving's REST interface."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf import json_format
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tfasr.serving.answers import Answer, join_answers
from tfasr.serving.http import received
from tfasr.serving.inputs import InputError, one_line, shown
from tfasr.serving.runtime import AUDIO, ServedModel
from tfasr.serving.service import Service
from tfasr.serving.versions import VersionState


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The body of a `:predict` request, brought to rows.

    Args:
        signature: One that the model has.
        layout: "instances" is the row format, "inputs" the column format.
        rows: One utterance each, by name of the signature's inputs; values are unchecked JSON.
    """

    signature: str
    layout: Literal["instances", "inputs"]
    rows: list[dict[str, Any]]


def routes(service: Service) -> list[Route]:
    """Lists what TensorFlow Serving answers under /v1/models."""
    name = service.versions.current.name

    def model_of(request: Request) -> ServedModel:
        model = service.versions.current
        if request.path_params.get("version", str(model.version)) != str(model.version):
            raise HTTPException(404)
        return model

    async def get_status(request: Request) -> Response:
        model = model_of(request)
        states = service.versions.states()
        if "version" in request.path_params:
            states = [state for state in states if state.version == model.version]
        return JSONResponse(model_status(states))

    async def get_metadata(request: Request) -> Response:
        return JSONResponse(model_metadata(model_of(request)))

    async def post_predict(request: Request) -> Response:
        model = model_of(request)
        async with received(request, service) as body:
            return JSONResponse(await predict(service, model, body))

    found = []
    for path in (f"/v1/models/{name}", f"/v1/models/{name}/versions/{{version}}"):
        found += [
            Route(f"{path}:predict", post_predict, methods=["POST"]),
            Route(f"{path}/metadata", get_metadata),
            Route(path, get_status),
        ]
    return found


async def predict(service: Service, model: ServedModel, body: bytes) -> dict[str, Any]:
    """Answers a `:predict` request.

    Args:
        service: What has it heard.
        model: The version that is asked.
        body: The JSON, in row or column format.

    Raises:
        InputError: The request can't be answered; one line says why.
        Overloaded: There is no room for it.
        Late: The answer did not come in time.
    """
    request, values = await service.in_thread(
        _read_request, body, model, service.config.max_instances
    )
    if request.signature == AUDIO:
        files = [(f"instance {index}", value) for index, value in enumerate(values)]
        heard = await service.transcribe(model, files)
    else:
        heard = await service.transcribe_waveforms(model, values, signature=request.signature)
    return _written([each.answer for each in heard], request.layout)


def _read_request(
    body: bytes, model: ServedModel, max_instances: int
) -> tuple[PredictRequest, list[Any]]:
    request = parse_request(body, model.signatures, max_instances)
    if request.signature == AUDIO:
        return request, [
            _audio(row["audio"], f"instance {index}") for index, row in enumerate(request.rows)
        ]
    return request, model.waveforms_of(request.rows)


def _written(answers: Sequence[Answer], layout: str) -> dict[str, Any]:
    """Writes answers as TensorFlow Serving does: an only output goes without its name."""
    columns = {name: _json_column(column) for name, column in join_answers(answers).items()}
    if layout == "inputs":
        return {"outputs": columns["text"] if len(columns) == 1 else columns}
    if len(columns) == 1:
        return {"predictions": columns["text"]}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _json_column(column: NDArray[Any]) -> list[Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        # JSON knows no NaN and no infinity.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [plain(value) for value in column.tolist()]


def parse_request(
    body: bytes, signatures: Mapping[str, Sequence[str]], max_instances: int
) -> PredictRequest:
    """Reads the body of a `:predict` request.

    Args:
        body: The JSON, in row or column format.
        signatures: The names of the inputs of each signature.
        max_instances: Most utterances in the request.

    Raises:
        InputError: It is no such JSON.
    """
    request = _json(body)
    if not isinstance(request, dict):
        raise InputError(f"the body must be a JSON object; got {shown(request)}")
    signature = request.get("signature_name", AUDIO)
    if not isinstance(signature, str) or signature not in signatures:
        raise InputError(
            f"signature_name must be one of {', '.join(signatures)}; got {shown(signature)}"
        )
    if ("instances" in request) == ("inputs" in request):
        raise InputError('the body must have either "instances" or "inputs"')
    layout: Literal["instances", "inputs"] = "instances" if "instances" in request else "inputs"
    read = _rows_of_instances if layout == "instances" else _rows_of_columns
    rows = read(request[layout], signatures[signature], max_instances)
    return PredictRequest(signature=signature, layout=layout, rows=rows)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise InputError("the body must be JSON; it is nested too deep") from None
    except ValueError as error:
        raise InputError(f"the body must be JSON; {one_line(str(error))[:200]}") from None


def _check_number(number: int, max_instances: int) -> None:
    if not 1 <= number <= max_instances:
        raise InputError(f"a request must hold 1 to {max_instances} instances; got {number}")


def _rows_of_instances(
    instances: Any, names: Sequence[str], max_instances: int
) -> list[dict[str, Any]]:
    if not isinstance(instances, list):
        raise InputError(f"instances must be a list; got {shown(instances)}")
    _check_number(len(instances), max_instances)
    rows = []
    for index, instance in enumerate(instances):
        if isinstance(instance, dict) and set(instance) == set(names):
            rows.append(instance)
        elif len(names) == 1:
            rows.append({names[0]: instance})
        else:
            raise InputError(
                f"instance {index}: must be an object of {_listed(names)}; got {shown(instance)}"
            )
    return rows


def _rows_of_columns(inputs: Any, names: Sequence[str], max_instances: int) -> list[dict[str, Any]]:
    if len(names) == 1 and isinstance(inputs, list):
        inputs = {names[0]: inputs}
    if not isinstance(inputs, dict) or set(inputs) != set(names):
        raise InputError(f"inputs must be an object of {_listed(names)}; got {shown(inputs)}")
    for name in names:
        if not isinstance(inputs[name], list):
            raise InputError(f"inputs: {name} must be a list; got {shown(inputs[name])}")
        if len(inputs[name]) != len(inputs[names[0]]):
            raise InputError(
                f"inputs: {_listed(names)} must have one length; "
                f"got {', '.join(str(len(inputs[name])) for name in names)}"
            )
    _check_number(len(inputs[names[0]]), max_instances)
    return [
        dict(zip(names, values, strict=True))
        for values in zip(*(inputs[name] for name in names), strict=True)
    ]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)


def _audio(value: Any, name: str) -> bytes:
    encoded = value.get("b64") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(encoded, str):
        raise InputError(f'{name}: audio must be {{"b64": "BASE64"}}; got {shown(value)}')
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise InputError(f"{name}: b64 must be base64; {one_line(str(error))}") from None


def model_status(states: Sequence[VersionState]) -> dict[str, Any]:
    """Writes GetModelStatusResponse."""
    return {
        "model_version_status": [
            {
                "version": str(state.version),
                "state": state.state,
                "status": {
                    "error_code": "UNKNOWN" if state.reason else "OK",
                    "error_message": state.reason,
                },
            }
            for state in states
        ]
    }


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """Writes GetModelMetadataResponse, with the signatures that stand in the SavedModel."""
    signatures = {
        signature: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, including_default_value_fields=True
        )
        for signature, definition in model.signature_defs.items()
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
