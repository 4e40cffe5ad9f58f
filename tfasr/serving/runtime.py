"""An exported model in memory: finds the newest version, loads it and gives text."""

import contextlib
import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.eager import context

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.answers import Answer, Heard, frames_of_batch, split_batch
from tfasr.serving.inputs import InputError, checked_wav, checked_waveforms, one_line
from tfasr.serving.stream_steps import START, STREAM, StreamSteps, Window

AUDIO = "serving_default"
WAVEFORMS = "waveforms"
FEATURES = "features"
# The inputs of the signatures that the export stage writes, and what each gives, among others.
SIGNATURES = {
    AUDIO: ("audio",),
    WAVEFORMS: ("waveforms", "num_samples"),
    FEATURES: ("waveforms", "num_samples"),
}
_GIVES = {AUDIO: "text", WAVEFORMS: "text", FEATURES: "num_frames"}

# oneDNN's form of it keeps what it is doing in the operation, so that two calls at once, of
# different shapes, corrupt memory. Layer norms of exports hold it until TensorFlow joins them.
_ALONE = "FusedBatchNormV3"
_LOG = logging.getLogger(__name__)

_WAV_HEADER = 44
_SAMPLE_BYTES = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[1-9][0-9]*")


def complete_versions(model: Path) -> list[int]:
    """Lists the versions of a model folder that were exported to their end, the highest first."""
    return sorted((int(path.name) for path in model.iterdir() if _is_version(path)), reverse=True)


def newest_version(model: Path) -> int:
    """Finds the highest version of a model folder that was exported to its end.

    Raises:
        ValueError: There is none; the message says what to run.
    """
    if not model.is_dir():
        raise ValueError(
            f"{model}: no such model folder; make it with `tfasr export --run RUN --out {model}`"
        )
    if versions := complete_versions(model):
        return versions[0]
    if _is_version(model):
        raise ValueError(f"{model}: is one version of a model; give its folder {model.parent}")
    raise ValueError(
        f"{model}: no complete version in it (a folder such as 1 with saved_model.pb and "
        f"export.json); make one with `tfasr export --run RUN --out {model}`"
    )


def _is_version(path: Path) -> bool:
    return (
        _VERSION.fullmatch(path.name) is not None
        and (path / "saved_model.pb").is_file()
        and (path / "export.json").is_file()
    )


class ServedModel:
    """One version of an exported model, loaded.

    Args:
        model: The folder `saved_models/NAME`.
        version: Which of the versions in it.
        max_seconds: Longest utterance it is given, in seconds.

    Attributes:
        facts: What export.json says.
        stream: The steps of a model that hears streams, None for others.
        signature_defs: The SavedModel's own description of its signatures.

    Raises:
        ValueError: The folder holds no complete version, or one that is not as exported.
    """

    def __init__(
        self,
        model: Path,
        *,
        version: int | Literal["newest"] = "newest",
        max_seconds: float = 60.0,
    ) -> None:
        self.name = model.resolve().name
        self.version = newest_version(model) if version == "newest" else version
        self.folder = model / str(self.version)
        self.max_seconds = max_seconds
        self.facts = _facts(self.folder / "export.json")
        self.sample_rate: int = self.facts["sample_rate"]
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"a model folder's name must be letters, digits, '.', '_' and '-'; got {self.name}"
            )
        try:
            # Kept, since the signatures don't hold their variables alive.
            self._loaded = tf.saved_model.load(str(self.folder))
            self._check_signatures()
            self.stream = self._stream_steps()
            # Until `warm_up` has seen that more than one call at once does no harm.
            self._turns = threading.Lock()
            called = [*self.signatures, *([STREAM] if self.stream is not None else [])]
            self._guards: dict[str, AbstractContextManager[Any]] = dict.fromkeys(
                called, self._turns
            )
            self.signature_defs = _signature_defs(self.folder)
        except (OSError, ValueError, tf.errors.OpError, DecodeError) as error:
            raise self._not_loaded(error) from None

    @property
    def signatures(self) -> dict[str, tuple[str, ...]]:
        """Names of the signatures that can be called, with the names of their inputs."""
        return {
            name: inputs for name, inputs in SIGNATURES.items() if name in self._loaded.signatures
        }

    @property
    def one_at_a_time(self) -> list[str]:
        """Names of the signatures whose calls wait for one another."""
        return [name for name, guard in self._guards.items() if guard is self._turns]

    def as_wav(self, data: bytes, name: str) -> bytes:
        """Rewrites an audio file of any format and rate as the model takes it.

        Raises:
            InputError: It can't be used; the message starts with `name`.
        """
        return checked_wav(data, name, sample_rate=self.sample_rate, max_seconds=self.max_seconds)

    def transcribe(self, audio: Sequence[bytes]) -> list[str]:
        """Gives the text of each audio file.

        Args:
            audio: Files of any format and rate that libsndfile reads.

        Raises:
            InputError: Names the first file that can't be used, as `instance INDEX`.
        """
        return self._texts_of_wavs(
            [self.as_wav(data, f"instance {index}") for index, data in enumerate(audio)]
        )

    def hear(self, data: bytes, name: str) -> Heard:
        """Gives all that the model gives for one audio file; raises as `as_wav` does."""
        wav = self.as_wav(data, name)
        [answer] = self.answers(AUDIO, [wav])
        return Heard(answer=answer, seconds=self.seconds_of(wav))

    def seconds_of(self, wav: bytes) -> float:
        """How long a file of `as_wav` is."""
        return (len(wav) - _WAV_HEADER) / _SAMPLE_BYTES / self.sample_rate

    def waveforms_of(self, instances: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32]]:
        """Takes the real samples of each JSON instance of the `waveforms` signature.

        Args:
            instances: Each with "waveforms" and "num_samples"; see `checked_waveforms`.

        Raises:
            InputError: Names the first instance that can't be used.
        """
        if not instances:
            return []
        waveforms, num_samples = checked_waveforms(
            instances, sample_rate=self.sample_rate, max_seconds=self.max_seconds
        )
        return [row[:count] for row, count in zip(waveforms, num_samples, strict=True)]

    def answers(self, signature: str, values: Sequence[Any]) -> list[Answer]:
        """Hears a batch.

        Args:
            signature: One of `signatures`.
            values: An utterance each: for "serving_default" a WAV file of `as_wav`, for
                "waveforms" and "features" float32 [T] in [-1, 1], for "stream_step" a `Window`.

        Raises:
            InputError: The graph refuses one of them.
        """
        if not values:
            return []
        if signature == STREAM and self.stream is not None:
            with self._guards[STREAM]:
                return self.stream.answers(values)
        if signature == AUDIO:
            return split_batch(self._call(AUDIO, audio=np.array(values, object)))
        num_samples = np.array([len(value) for value in values], np.int32)
        waveforms = np.zeros((len(values), num_samples.max()), np.float32)
        for row, value in zip(waveforms, values, strict=True):
            row[: len(value)] = value
        outputs = self._call(signature, waveforms=waveforms, num_samples=num_samples)
        return frames_of_batch(outputs) if signature == FEATURES else split_batch(outputs)

    def _texts_of_wavs(self, wavs: Sequence[bytes]) -> list[str]:
        return [answer["text"] for answer in self.answers(AUDIO, wavs)]

    def _call(self, signature: str, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        try:
            with self._guards[signature]:
                outputs = self._loaded.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            reason = one_line(error.message)[:300]
            raise InputError(f"the model refuses this audio; {reason}") from None
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _check_signatures(self) -> None:
        for name, inputs in SIGNATURES.items():
            if name not in self._loaded.signatures:
                if name == AUDIO:
                    raise ValueError(f"it must have the signature {AUDIO}; it has none")
                continue
            signature = self._loaded.signatures[name]
            has = set(signature.structured_input_signature[1])
            if has != set(inputs) or _GIVES[name] not in signature.structured_outputs:
                raise ValueError(
                    f"signature {name} must take {', '.join(inputs)} and give {_GIVES[name]}; "
                    f"it takes {', '.join(sorted(has))} and gives "
                    f"{', '.join(sorted(signature.structured_outputs))}"
                )

    def _stream_steps(self) -> StreamSteps | None:
        if STREAM not in self._loaded.signatures or START not in self._loaded.signatures:
            return None
        return StreamSteps(self._loaded.signatures, self.facts.get("window"))

    def warm_up(self) -> None:
        """Calls each signature, since the first call of one takes a second or more.

        From then on a signature is called several times at once where that does no harm.

        Raises:
            ValueError: One fails.
        """
        second = np.zeros(self.sample_rate, np.int16)
        try:
            self._first_call(AUDIO, wav_bytes(second, self.sample_rate))
            for signature in self.signatures:
                if signature != AUDIO:
                    self._first_call(signature, second.astype(np.float32))
            if self.stream is not None:
                silence = np.zeros(self.stream.samples, np.float32)
                self._first_call(STREAM, Window(samples=silence, state=self.stream.start()))
        except (ValueError, tf.errors.OpError) as error:
            raise self._not_loaded(error) from None

    def _first_call(self, signature: str, value: Any) -> None:
        with context.collect_graphs(optimized=True) as graphs:
            self.answers(signature, [value])
        # Those of what was called before are not collected again.
        if not graphs:
            return
        if any(_ALONE in _operations(graph) for graph in graphs):
            _LOG.warning(
                "%s: calls of %s are heard one at a time, since its graph has %s; export it anew",
                self.folder,
                signature,
                _ALONE,
            )
        else:
            self._guards[signature] = contextlib.nullcontext()

    def _not_loaded(self, error: Exception) -> ValueError:
        return ValueError(f"{self.folder}: cannot be loaded; {one_line(str(error))}")


def _operations(graph: tf.compat.v1.GraphDef) -> set[str]:
    functions = (node for function in graph.library.function for node in function.node_def)
    return {node.op for nodes in (graph.node, functions) for node in nodes}


def _signature_defs(folder: Path) -> dict[str, Any]:
    """Reads the SignatureDef messages of a SavedModel."""
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((folder / "saved_model.pb").read_bytes())
    return dict(saved_model.meta_graphs[0].signature_def)


def _facts(export: Path) -> dict[str, Any]:
    try:
        facts = json.loads(export.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{export}: no JSON; {error}") from None
    sample_rate = facts.get("sample_rate") if isinstance(facts, dict) else None
    if type(sample_rate) is not int or sample_rate < 1:
        raise ValueError(f"{export}: sample_rate must be a positive integer; got {sample_rate!r}")
    return dict(facts)
