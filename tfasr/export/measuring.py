"""What a written version comes to: its size, how long it takes, how often it errs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfasr.audio.decoding import wav_bytes
from tfasr.audio.utterance import Split
from tfasr.data.pipelines import every_example
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.error_rates import Evaluation, evaluate_texts
from tfasr.features.fbank import INT16_SCALE


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """An utterance as a client sends it.

    Args:
        name: Of the utterance.
        wav: 16-bit, of the model's rate.
        text: What was said.
        seconds: How long it is.
    """

    name: str
    wav: bytes
    text: str
    seconds: float


def spoken(
    data: PreparedData, split: Split, domains: Sequence[str], sample_rate: int, limit: int = 0
) -> list[Spoken]:
    """Reads utterances of a split, in order.

    Args:
        data: Prepared data.
        split: The split.
        domains: To keep; empty means all.
        sample_rate: Of the model, in hertz.
        limit: The first so many; 0 for all.

    Raises:
        ValueError: The data has another sample rate.
    """
    rate = data.index["sample_rate"]
    if rate != sample_rate:
        raise ValueError(
            f"{data.folder}: must have the model's sample rate of {sample_rate} Hz; got {rate} Hz"
        )
    durations = data.durations(split, tuple(domains))
    with data.reading():
        examples = every_example(data.source(split), durations, tuple(domains), rate)
        return [
            _spoken(example, rate) for example in examples.take(limit or -1).as_numpy_iterator()
        ]


def _spoken(example: dict[str, Any], rate: int) -> Spoken:
    samples = np.round(example["waveform"] * INT16_SCALE).astype(np.int16)
    return Spoken(
        name=example["id"].decode(),
        wav=wav_bytes(samples, rate),
        text=example["text"].decode(),
        seconds=len(samples) / rate,
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of one version.

    Args:
        bytes: Of all its files.
        load_seconds: To load it.
        real_time_factor: Seconds of work for a second of audio, one utterance at a time, the
            first answer left out.
        evaluation: Error rates.
        texts: What it gave, in the order of the utterances.
    """

    bytes: int
    load_seconds: float
    real_time_factor: float
    evaluation: Evaluation
    texts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object, without the texts."""
        return {name: value for name, value in asdict(self).items() if name != "texts"}


def measure(folder: Path, utterances: Sequence[Spoken]) -> Measured:
    """Loads a version and asks it every utterance.

    Args:
        folder: NAME/VERSION.
        utterances: At least one.
    """
    started = time.perf_counter()
    model = tf.saved_model.load(str(folder))
    load_seconds = time.perf_counter() - started
    signature = model.signatures["serving_default"]

    def ask(wav: bytes) -> str:
        return str(signature(audio=tf.constant([wav]))["text"].numpy()[0].decode())

    texts, seconds = answers(ask, utterances)
    return Measured(
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        load_seconds=load_seconds,
        real_time_factor=seconds / max(sum(each.seconds for each in utterances), 1e-9),
        evaluation=evaluate_texts([each.text for each in utterances], texts),
        texts=texts,
    )


def answers(
    ask: Callable[[bytes], str], utterances: Sequence[Spoken]
) -> tuple[tuple[str, ...], float]:
    """Asks every utterance: the texts, and the seconds that took but for what a first one needs."""
    ask(utterances[0].wav)
    started = time.perf_counter()
    texts = tuple(ask(each.wav) for each in utterances)
    return texts, time.perf_counter() - started
