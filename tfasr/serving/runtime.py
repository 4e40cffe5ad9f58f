"""An exported model in memory: finds the newest version, loads it and gives text."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.inputs import InputError, checked_wav, checked_waveforms, one_line

AUDIO = "serving_default"
WAVEFORMS = "waveforms"
# The inputs of the signatures that the export stage writes; each gives `text`, among others.
SIGNATURES = {AUDIO: ("audio",), WAVEFORMS: ("waveforms", "num_samples")}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[1-9][0-9]*")


def newest_version(model: Path) -> int:
    """Finds the highest version of a model folder that was exported to its end.

    Raises:
        ValueError: There is none; the message says what to run.
    """
    if not model.is_dir():
        raise ValueError(
            f"{model}: no such model folder; make it with `tfasr export --run RUN --out {model}`"
        )
    versions = [int(path.name) for path in model.iterdir() if _is_version(path)]
    if versions:
        return max(versions)
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
    """The newest version of an exported model, loaded and warmed up.

    Args:
        model: The folder `saved_models/NAME`.
        max_seconds: Longest utterance it is given, in seconds.

    Raises:
        ValueError: The folder holds no complete version, or one that is not as exported.
    """

    def __init__(self, model: Path, *, max_seconds: float = 60.0) -> None:
        self.name = model.resolve().name
        self.version = newest_version(model)
        self.folder = model / str(self.version)
        self.max_seconds = max_seconds
        self.sample_rate = _sample_rate(self.folder / "export.json")
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"a model folder's name must be letters, digits, '.', '_' and '-'; got {self.name}"
            )
        try:
            # Kept, since the signatures don't hold their variables alive.
            self._loaded = tf.saved_model.load(str(self.folder))
            self._check_signatures()
            self._warm_up()
        except (OSError, ValueError, tf.errors.OpError) as error:
            reason = one_line(str(error))
            raise ValueError(f"{self.folder}: cannot be loaded; {reason}") from None

    @property
    def signatures(self) -> dict[str, tuple[str, ...]]:
        """Names of the signatures that can be called, with the names of their inputs."""
        return {
            name: inputs for name, inputs in SIGNATURES.items() if name in self._loaded.signatures
        }

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

    def transcribe_waveforms(self, instances: Sequence[Mapping[str, Any]]) -> list[str]:
        """Gives the text of each JSON instance of the `waveforms` signature.

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
        return self._call(WAVEFORMS, waveforms=waveforms, num_samples=num_samples)

    def _texts_of_wavs(self, wavs: Sequence[bytes]) -> list[str]:
        return self._call(AUDIO, audio=np.array(wavs, object)) if wavs else []

    def _call(self, signature: str, **inputs: NDArray[Any]) -> list[str]:
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        try:
            texts = self._loaded.signatures[signature](**tensors)["text"]
        except tf.errors.InvalidArgumentError as error:
            reason = one_line(error.message)[:300]
            raise InputError(f"the model refuses this audio; {reason}") from None
        return [text.decode("utf-8", errors="replace") for text in texts.numpy()]

    def _check_signatures(self) -> None:
        for name, inputs in SIGNATURES.items():
            if name not in self._loaded.signatures:
                if name == AUDIO:
                    raise ValueError(f"it must have the signature {AUDIO}; it has none")
                continue
            signature = self._loaded.signatures[name]
            has = set(signature.structured_input_signature[1])
            if has != set(inputs) or "text" not in signature.structured_outputs:
                raise ValueError(
                    f"signature {name} must take {', '.join(inputs)} and give text; "
                    f"it takes {', '.join(sorted(has))} and gives "
                    f"{', '.join(sorted(signature.structured_outputs))}"
                )

    def _warm_up(self) -> None:
        second = np.zeros(self.sample_rate, np.int16)
        self._texts_of_wavs([wav_bytes(second, self.sample_rate)])
        if WAVEFORMS in self.signatures:
            self._call(
                WAVEFORMS,
                waveforms=np.zeros((1, len(second)), np.float32),
                num_samples=np.array([len(second)], np.int32),
            )


def _sample_rate(export: Path) -> int:
    try:
        facts = json.loads(export.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{export}: no JSON; {error}") from None
    sample_rate = facts.get("sample_rate") if isinstance(facts, dict) else None
    if type(sample_rate) is not int or sample_rate < 1:
        raise ValueError(f"{export}: sample_rate must be a positive integer; got {sample_rate!r}")
    return sample_rate
