"""Asks a running server for text."""

import base64
from collections.abc import Sequence
from typing import Any

import httpx

from tfasr.serving.inputs import one_line


class ServerError(ConnectionError):
    """The server can't be reached, or fails on whatever it is asked; one line says why."""


def transcribe_url(url: str, audio: Sequence[bytes], *, timeout: float = 120.0) -> list[str]:
    """Gives the text of each audio file, by a server that speaks TensorFlow Serving's REST.

    Args:
        url: Of the model, such as http://127.0.0.1:8501/v1/models/NAME.
        audio: Files of any format and rate that the server reads; all are sent in one request.
        timeout: How long to wait for the server at a time, in seconds.

    Raises:
        ValueError: The server refuses the audio; has its reason.
        ServerError: There is no such server or model at `url`, or it fails.
    """
    if not audio:
        return []
    instances = [{"b64": base64.b64encode(data).decode("ascii")} for data in audio]
    try:
        response = httpx.post(
            f"{url.rstrip('/')}:predict", json={"instances": instances}, timeout=timeout
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ServerError(f"{url}: no answer; {reason} (is `tfasr serve` running?)") from None
    answer = _json(response)
    if response.status_code in (400, 413):
        raise ValueError(_reason(answer))
    texts = answer.get("predictions") if isinstance(answer, dict) else None
    if response.status_code != 200 or not _are_texts(texts, len(audio)):
        raise ServerError(f"{url}: status {response.status_code}; {_reason(answer)}")
    return list(texts or [])


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def _reason(answer: Any) -> str:
    reason = answer.get("error", answer) if isinstance(answer, dict) else answer
    return one_line(str(reason))[:500]


def _are_texts(texts: Any, number: int) -> bool:
    return (
        isinstance(texts, list)
        and len(texts) == number
        and all(isinstance(text, str) for text in texts)
    )
