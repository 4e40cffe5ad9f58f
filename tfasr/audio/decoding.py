"""Audio files and their bytes, in and out of 16-bit mono."""

import io
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
from numpy.typing import NDArray

from tfasr.audio.utterance import CorpusError, Utterance

FULL_SCALE = 32768  # What libsndfile calls 1.0, in steps of 16 bits.
LOWEST_RATE = 1000  # In hertz. A header that claims less, or more than the highest, is damaged.
HIGHEST_RATE = 384000
# Writers that can't seek back leave about 2 or 4 GiB in the header in place of the size.
UNKNOWN_SIZE = 0x7FFF_0000
BLOCK = 1 << 20  # Samples that are read at once.

Samples = NDArray[np.int16] | NDArray[np.float64]


def read_audio(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """Reads a recording of any format libsndfile knows.

    Channels are averaged. 16-bit mono at `sample_rate` comes out as it stands in the file;
    other rates are resampled behind an anti-aliasing filter. An MP3 of variable bit rate needs
    the header that has its length: without one, libsndfile estimates where to stop.

    Args:
        path: The file.
        sample_rate: Of the result, in hertz.

    Returns:
        int16 [T], T at least 1.

    Raises:
        CorpusError: The file is missing, empty, damaged or cut short, or its samples are not
            finite.
    """
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            return _read(handle.fileno(), size, str(path), sample_rate)
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except OSError as error:
        raise CorpusError(f"{path}: must be a file that can be read; {error.strerror}") from None


def read_audio_bytes(data: bytes, name: str, sample_rate: int) -> NDArray[np.int16]:
    """Reads a recording that is in memory, like `read_audio`.

    Args:
        data: The whole file.
        name: What messages call it.
        sample_rate: Of the result, in hertz.

    Returns:
        int16 [T], T at least 1.

    Raises:
        CorpusError: As for `read_audio`.
    """
    return _read(_Bytes(data), len(data), name, sample_rate)


class _Bytes(io.BytesIO):
    """Stays where it is when a damaged header makes libsndfile seek to before the start."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset < 0:
            return self.tell()
        return super().seek(offset, whence)


def _read(file: int | _Bytes, size: int, name: str, sample_rate: int) -> NDArray[np.int16]:
    if not size:
        raise CorpusError(f"{name}: must not be empty; got 0 bytes")
    try:
        samples, rate = _decode(file, name)
    except soundfile.LibsndfileError as error:
        reason = " ".join(error.error_string.split())
        raise CorpusError(f"{name}: must be audio that libsndfile reads; {reason}") from None
    if not len(samples):
        raise CorpusError(f"{name}: must hold at least one sample; got 0")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise CorpusError(
            f"{name}: sample rate must be {LOWEST_RATE} to {HIGHEST_RATE} Hz; got {rate} Hz"
        )
    if not np.all(np.isfinite(samples)):
        raise CorpusError(f"{name}: samples must be finite; got NaN or infinity")
    if samples.dtype == np.int16 and samples.shape[1] == 1 and rate == sample_rate:
        return np.ascontiguousarray(samples[:, 0])
    scale = 1 if samples.dtype == np.int16 else FULL_SCALE
    return _to_int16(_resampled(samples.mean(axis=1, dtype=np.float64) * scale, rate, sample_rate))


def _decode(file: int | _Bytes, name: str) -> tuple[Samples, int]:
    """Gives int16 or float64 [T, channels] and the rate in hertz."""
    with soundfile.SoundFile(file, closefd=False) as sound:
        kind = "int16" if sound.subtype == "PCM_16" else "float64"
        blocks = [sound.read(BLOCK, dtype=kind, always_2d=True)]
        # Not all at once: a damaged header may claim more than there is memory for.
        while len(blocks[-1]) == BLOCK:
            blocks.append(sound.read(BLOCK, dtype=kind, always_2d=True))
        samples = np.concatenate(blocks)
        _refuse_cut_short(sound, len(samples), name)
        return samples, sound.samplerate


def _refuse_cut_short(sound: soundfile.SoundFile, num_read: int, name: str) -> None:
    # libsndfile shortens the WAV or AIFF it finds cut, and says so only in its log.
    size = re.search(r"^ ?(?:data|SSND) *: (\d+) \(should be (\d+)\)", sound.extra_info, re.M)
    if size and int(size[2]) < int(size[1]) < UNKNOWN_SIZE:
        raise CorpusError(
            f"{name}: must not be cut short; got {size[2]} of the {size[1]} bytes in its header"
        )
    # The length of an MP3 is an estimate unless its header has it.
    if num_read < sound.frames and not sound.subtype.startswith("MPEG"):
        raise CorpusError(
            f"{name}: must not be cut short; got {num_read} of the {sound.frames} samples "
            "in its header"
        )


def _resampled(samples: NDArray[np.float64], rate: int, sample_rate: int) -> NDArray[np.float64]:
    if rate == sample_rate:
        return samples
    common = math.gcd(rate, sample_rate)
    resampled: NDArray[np.float64] = scipy.signal.resample_poly(
        samples, sample_rate // common, rate // common
    )
    return resampled


def _to_int16(samples: NDArray[np.float64]) -> NDArray[np.int16]:
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(samples), limits.min, limits.max).astype(np.int16)


def decode_ahead(
    decode: Callable[[Utterance], NDArray[np.int16]], utterances: Iterable[Utterance]
) -> Iterator[NDArray[np.int16] | CorpusError]:
    """Decodes utterances on all cores, a few ahead of the one that is asked for.

    Args:
        decode: Gives an utterance's audio or raises a `CorpusError`; runs in threads.
        utterances: What to decode.

    Yields:
        In the order of `utterances`, the audio or the error.
    """

    def attempt(utterance: Utterance) -> NDArray[np.int16] | CorpusError:
        try:
            return decode(utterance)
        except CorpusError as error:
            return error

    threads = os.cpu_count() or 1
    pending: deque[Future[NDArray[np.int16] | CorpusError]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for utterance in utterances:
            pending.append(pool.submit(attempt, utterance))
            if len(pending) > 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def wav_bytes(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """Makes a 16-bit WAV file in memory.

    Args:
        samples: int16 [T], or [T, channels].
        sample_rate: In hertz.

    Raises:
        ValueError: The samples are not int16.
    """
    if samples.dtype != np.int16:
        raise ValueError(f"samples must be int16; got dtype={samples.dtype}")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write_wav(path: Path, samples: NDArray[np.int16], sample_rate: int) -> None:
    """Writes a 16-bit WAV file; the arguments are those of `wav_bytes`."""
    path.write_bytes(wav_bytes(samples, sample_rate))
