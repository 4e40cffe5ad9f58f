"""What a model may be given: audio files and waveforms, checked one instance at a time."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tfasr.audio.decoding import read_audio_bytes, wav_bytes
from tfasr.audio.utterance import CorpusError

# What two channels at 192 kHz hold. More is no speech, and a compressed file of silence could
# exhaust the memory with it in spite of lasting a second.
_VALUES_PER_SECOND = 2 * 192000


class InputError(ValueError):
    """Something a caller sent that can't be used; the message is one line that says why."""


def checked_wav(data: bytes, name: str, *, sample_rate: int, max_seconds: float) -> bytes:
    """Rewrites an audio file as the model takes it.

    Args:
        data: A file of any format and rate that libsndfile reads.
        name: What messages call it, such as "instance 3".
        sample_rate: The model's, in hertz.
        max_seconds: Longest audio, in seconds.

    Returns:
        A mono WAV file of 16-bit PCM at `sample_rate`.

    Raises:
        InputError: The data is no audio, holds no samples, or is beyond a limit.
    """
    try:
        if data:
            _check_header(data, name, max_seconds)
        samples = read_audio_bytes(data, name, sample_rate)
    except CorpusError as error:
        raise InputError(one_line(str(error))) from None
    return wav_bytes(samples, sample_rate)


def _check_header(data: bytes, name: str, max_seconds: float) -> None:
    try:
        header = soundfile.info(io.BytesIO(data))
    except soundfile.SoundFileError:
        raise InputError(
            f"{name}: must be an audio file that libsndfile reads; got {len(data)} bytes of "
            "something else"
        ) from None
    _check_seconds(header.frames / max(header.samplerate, 1), name, max_seconds)
    if header.frames * header.channels > max_seconds * _VALUES_PER_SECOND:
        raise InputError(
            f"{name}: audio must hold at most {_VALUES_PER_SECOND} values a second; "
            f"got {header.channels} channels at {header.samplerate} Hz"
        )


def _check_seconds(seconds: float, name: str, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise InputError(f"{name}: audio must last at most {max_seconds:g} s; got {seconds:.4g} s")


def checked_waveforms(
    instances: Sequence[Mapping[str, Any]], *, sample_rate: int, max_seconds: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Makes one batch of the JSON values of the `waveforms` signature.

    Args:
        instances: Each "waveforms", a list of numbers in [-1, 1], padded to the length of the
            first, and "num_samples", how many of them are real.
        sample_rate: The model's, in hertz.
        max_seconds: Longest list, in seconds.

    Returns:
        Waveforms, float32 [B, T], and numbers of samples, int32 [B].

    Raises:
        InputError: Names the instance and the rule it breaks.
    """
    waveforms = []
    for index, instance in enumerate(instances):
        name = f"instance {index}"
        samples = instance["waveforms"]
        if not isinstance(samples, list) or not samples:
            raise InputError(f"{name}: waveforms must be a list of numbers that is not empty")
        _check_seconds(len(samples) / sample_rate, name, max_seconds)
        waveforms.append(_checked_samples(samples, name))
        if len(samples) != len(waveforms[0]):
            raise InputError(
                f"{name}: waveforms of one request must be padded to one length; "
                f"got {len(samples)} samples, instance 0 has {len(waveforms[0])}"
            )
        num_samples = instance["num_samples"]
        if type(num_samples) is not int or not 1 <= num_samples <= len(samples):
            raise InputError(
                f"{name}: num_samples must be an integer in [1, {len(samples)}]; "
                f"got {shown(num_samples)}"
            )
    num_samples = [instance["num_samples"] for instance in instances]
    return np.stack(waveforms).astype(np.float32), np.array(num_samples, np.int32)


def _checked_samples(samples: list[Any], name: str) -> NDArray[np.float64]:
    for sample in samples:
        # Also refuses NaN, and what float32 can't hold.
        if type(sample) not in (int, float) or not -1 <= sample <= 1:
            raise InputError(f"{name}: waveforms must be numbers in [-1, 1]; got {shown(sample)}")
    return np.array(samples, np.float64)


def shown(value: Any) -> str:
    """Writes a value that a caller sent in a few printable characters."""
    if isinstance(value, dict | list):
        return f"a JSON {'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    if isinstance(value, str):
        return ascii(value[:60])
    return repr(value)[:60]


def one_line(text: str) -> str:
    """Puts a message on one line."""
    return " ".join(text.split())
