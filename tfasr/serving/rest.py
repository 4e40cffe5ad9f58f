"""The JSON of TensorFlow Serving's REST interface."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from tfasr.serving.inputs import InputError, one_line, shown
from tfasr.serving.runtime import AUDIO, ServedModel


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


def predict(model: ServedModel, body: bytes, max_instances: int) -> dict[str, list[str]]:
    """Answers a `:predict` request.

    Args:
        model: What to ask.
        body: The JSON, in row or column format.
        max_instances: Most utterances in it.

    Raises:
        InputError: The request can't be answered; one line says why.
    """
    request = parse_request(body, model.signatures, max_instances)
    if request.signature == AUDIO:
        texts = model.transcribe(
            [_audio(row["audio"], f"instance {index}") for index, row in enumerate(request.rows)]
        )
    else:
        texts = model.transcribe_waveforms(request.rows)
    return {"predictions" if request.layout == "instances" else "outputs": texts}


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


def model_status(version: int) -> dict[str, Any]:
    """Writes GetModelStatusResponse of a version that answers requests."""
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def model_metadata(name: str, version: int, folder: Path) -> dict[str, Any]:
    """Writes GetModelMetadataResponse, with the signatures that stand in a SavedModel."""
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((folder / "saved_model.pb").read_bytes())
    signatures = {
        signature: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, including_default_value_fields=True
        )
        for signature, definition in saved_model.meta_graphs[0].signature_def.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
