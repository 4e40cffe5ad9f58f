"""Audio files and their bytes, in and out of 16-bit mono."""

import io
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tfasr.audio.utterance import CorpusError
from tfasr.configs.audio import AudioConfig, Channel

FULL_SCALE = 32768  # What libsndfile calls 1.0, in steps of 16 bits.
LOWEST_RATE = 1000  # In hertz. A header that claims less, or more than the highest, is damaged.
HIGHEST_RATE = 384000
# Writers that can't seek back leave about 2 or 4 GiB in the header in place of the size.
UNKNOWN_SIZE = 0x7FFF_0000
UNKNOWN_LENGTH = 0x7FFF_FFFF_FFFF_FFFF  # What libsndfile makes of a FLAC header without one.
BLOCK = 1 << 20  # Samples that are read at once.
# Some encoders count the frame that holds the length, and some the padding of the last one.
MP3_SLACK = 2 * 1152
OGG_PAGE = 27 + 255 + 255 * 255  # The bytes of the longest page.
RAW_SUFFIXES = (".raw", ".pcm")
# libsndfile's name, and the bytes of one sample.
RAW_ENCODINGS = {
    "s16": ("PCM_16", 2),
    "s24": ("PCM_24", 3),
    "s32": ("PCM_32", 4),
    "f32": ("FLOAT", 4),
    "ulaw": ("ULAW", 1),
    "alaw": ("ALAW", 1),
}

Samples = NDArray[np.int16] | NDArray[np.float64]
# Gives so many bytes of a file from a position on.
Part = Callable[[int, int], bytes]


def read_audio(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """Reads a whole recording of any format libsndfile knows.

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
    with open_recording(path) as recording:
        return to_rate(recording.read(stop=recording.num_samples), recording.rate, sample_rate)


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
    with open_recording_bytes(data, name) as recording:
        return to_rate(recording.read(stop=recording.num_samples), recording.rate, sample_rate)


class _Bytes(io.BytesIO):
    """Stays where it is when a damaged header makes libsndfile seek to before the start."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset < 0:
            return self.tell()
        return super().seek(offset, whence)


class Recording:
    """An open recording: what its header says, and its samples on demand.

    Args:
        sound: The open file.
        name: What messages call it.
        is_counted: Whether its length is known; an MP3's may be libsndfile's estimate.

    Raises:
        CorpusError: The header belongs to no whole recording with samples in it.
    """

    def __init__(self, sound: soundfile.SoundFile, name: str, *, is_counted: bool) -> None:
        self.name = name
        self.rate = int(sound.samplerate)
        self.num_samples = int(sound.frames)
        self.is_counted = is_counted
        self._sound = sound
        self._check_header()

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.num_samples / self.rate

    def read(self, *, start: int = 0, stop: int, channel: Channel = "mix") -> Samples:
        """Reads a part at the recording's own rate, without decoding what is before it.

        Args:
            start: Its first sample.
            stop: The sample after its last, at most `num_samples`.
            channel: What is taken of several channels.

        Returns:
            [T] in steps of 16 bits: int16 as it stands in the file, or float64. T is
            `stop - start`, or less where `is_counted` is False.

        Raises:
            CorpusError: The recording is damaged or cut short, lacks the channel, or its
                samples are not finite.
        """
        try:
            blocks: list[Any] = [self._mono(block, channel) for block in self._blocks(start, stop)]
        except soundfile.LibsndfileError as error:
            raise CorpusError(
                f"{self.name}: must not be damaged or cut short; {_reason(error)}"
            ) from None
        num_read = sum(map(len, blocks))
        slack = MP3_SLACK if self._sound.subtype.startswith("MPEG") else 0
        if not num_read or (self.is_counted and num_read + slack < stop - start):
            raise CorpusError(
                f"{self.name}: must not be cut short; got {start + num_read} of the "
                f"{self.num_samples} samples in its header"
            )
        samples: Samples = np.concatenate(blocks)
        return samples

    def _blocks(self, start: int, stop: int) -> Iterator[Samples]:
        """Yields [T, channels]; all at once might be more than there is memory for."""
        if start:
            self._sound.seek(start)
        kind = "int16" if self._sound.subtype == "PCM_16" else "float64"
        while start < stop:
            block = self._sound.read(min(BLOCK, stop - start), dtype=kind, always_2d=True)
            if not len(block):
                return
            yield block
            start += len(block)

    def _mono(self, block: Samples, channel: Channel) -> Samples:
        if channel == "right" and block.shape[1] < 2:
            raise CorpusError(
                f"{self.name}: must have a right channel; got one channel "
                "(--audio.channel mix or left takes it)"
            )
        if channel != "mix":
            column = 0 if channel == "left" else 1
            block = block[:, column : column + 1]
        if not np.all(np.isfinite(block)):
            raise CorpusError(f"{self.name}: samples must be finite; got NaN or infinity")
        if block.dtype != np.int16:
            block = np.multiply(block, FULL_SCALE, dtype=np.float64)
        mono: Samples = block[:, 0]
        if block.shape[1] > 1:
            mono = block.mean(axis=1, dtype=np.float64)
        return mono

    def _check_header(self) -> None:
        # libsndfile shortens the WAV or AIFF it finds cut, and says so only in its log.
        log = self._sound.extra_info
        size = re.search(r"^ ?(?:data|SSND) *: (\d+) \(should be (\d+)\)", log, re.M)
        if size and int(size[2]) < int(size[1]) < UNKNOWN_SIZE:
            raise CorpusError(
                f"{self.name}: must not be cut short; got {size[2]} of the {size[1]} bytes in "
                "its header"
            )
        if not self.num_samples:
            raise CorpusError(f"{self.name}: must hold at least one sample; got 0")
        if self.num_samples == UNKNOWN_LENGTH:
            raise CorpusError(
                f"{self.name}: must say in its header how long it is; got no length "
                "(an encoder that writes to a pipe leaves it out: encode to a file)"
            )
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise CorpusError(
                f"{self.name}: sample rate must be {LOWEST_RATE} to {HIGHEST_RATE} Hz; "
                f"got {self.rate} Hz"
            )


@contextmanager
def open_recording(path: Path, raw: AudioConfig | None = None) -> Iterator[Recording]:
    """Opens a file of any format libsndfile knows, whatever its name ends with.

    Args:
        path: The file.
        raw: What `.raw` and `.pcm` files hold; without, they need a header like all others.

    Yields:
        The recording.

    Raises:
        CorpusError: There is no such recording, or its header belongs to no whole one.
    """
    try:
        # Unbuffered: libsndfile starts where the descriptor stands.
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except OSError as error:
        raise CorpusError(f"{path}: must be a file that can be read; {error.strerror}") from None
    with file:
        handle = file.fileno()
        size = os.fstat(handle).st_size
        is_raw = raw is not None and path.suffix.lower() in RAW_SUFFIXES
        form = _raw_form(path, size, raw) if raw is not None and is_raw else {}
        with _opened(handle, str(path), size, form) as sound:
            part = partial(_part_of_file, handle)
            _refuse_cut_page(sound, str(path), size, part)
            is_counted = _is_counted(sound, part)
            yield Recording(sound, str(path), is_counted=is_counted)


@contextmanager
def open_recording_bytes(data: bytes, name: str) -> Iterator[Recording]:
    """Opens a recording that is in memory, like `open_recording`.

    Args:
        data: The whole file.
        name: What messages call it.

    Yields:
        The recording.

    Raises:
        CorpusError: As for `open_recording`.
    """
    with _opened(_Bytes(data), name, len(data), {}) as sound:
        part = partial(_part_of_bytes, data)
        _refuse_cut_page(sound, name, len(data), part)
        is_counted = _is_counted(sound, part)
        yield Recording(sound, name, is_counted=is_counted)


@contextmanager
def _opened(
    file: int | _Bytes, name: str, size: int, form: dict[str, Any]
) -> Iterator[soundfile.SoundFile]:
    if not size:
        raise CorpusError(f"{name}: must not be empty; got 0 bytes")
    try:
        with soundfile.SoundFile(file, closefd=False, **form) as sound:
            yield sound
    except soundfile.LibsndfileError as error:
        raise CorpusError(
            f"{name}: must be audio that libsndfile reads; {_reason(error)}"
        ) from None


def _reason(error: soundfile.LibsndfileError) -> str:
    return " ".join(error.error_string.split())


def _raw_form(path: Path, size: int, raw: AudioConfig) -> dict[str, Any]:
    subtype, width = RAW_ENCODINGS[raw.raw_encoding]
    if size % (width * raw.raw_channels):
        raise CorpusError(
            f"{path}: size must be a multiple of {width * raw.raw_channels} bytes, by "
            f"--audio.raw_encoding {raw.raw_encoding} and --audio.raw_channels "
            f"{raw.raw_channels}; got {size} bytes"
        )
    return {
        "format": "RAW",
        "subtype": subtype,
        "endian": "LITTLE",
        "samplerate": raw.raw_rate,
        "channels": raw.raw_channels,
    }


def _part_of_file(handle: int, start: int, count: int) -> bytes:
    return os.pread(handle, count, start)


def _part_of_bytes(data: bytes, start: int, count: int) -> bytes:
    return data[start : start + count]


def _refuse_cut_page(sound: soundfile.SoundFile, name: str, size: int, part: Part) -> None:
    """Refuses Ogg that ends within a page; libsndfile leaves that page out, and says nothing.

    Source: RFC 3533, section 6: byte 26 of a page counts its segments, whose sizes follow.
    """
    if sound.format != "OGG":
        return
    end = part(max(0, size - OGG_PAGE), OGG_PAGE)
    place = end.rfind(b"OggS")
    if place < 0:
        return
    page = end[place:]
    header = 27 + (page[26] if len(page) > 26 else 0)
    if len(page) < header + sum(page[27:header]):
        raise CorpusError(f"{name}: must not be cut short; its last page is not whole")


def _is_counted(sound: soundfile.SoundFile, part: Part) -> bool:
    """Whether the length is no estimate."""
    if not sound.subtype.startswith("MPEG"):
        return True
    head, start = part(0, 10), 0
    if head.startswith(b"ID3"):
        # The size of the tag has seven bits a byte.
        start = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    first_frame = part(start, 1024)
    return b"Xing" in first_frame or b"Info" in first_frame


def to_rate(samples: Samples, rate: int, sample_rate: int) -> NDArray[np.int16]:
    """Resamples where it must, and rounds to the nearest of 16 bits, clipped.

    Args:
        samples: [T] in steps of 16 bits.
        rate: Their rate, in hertz.
        sample_rate: Of the result, in hertz.
    """
    if samples.dtype == np.int16 and rate == sample_rate:
        return samples.astype(np.int16, copy=False)
    return _to_int16(_resampled(samples.astype(np.float64, copy=False), rate, sample_rate))


def _resampled(samples: NDArray[np.float64], rate: int, sample_rate: int) -> NDArray[np.float64]:
    if rate == sample_rate:
        return samples
    # Takes as long to import as all else that reads audio, and few recordings need it.
    import scipy.signal

    common = math.gcd(rate, sample_rate)
    resampled: NDArray[np.float64] = scipy.signal.resample_poly(
        samples, sample_rate // common, rate // common
    )
    return resampled


def _to_int16(samples: NDArray[np.float64]) -> NDArray[np.int16]:
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(samples), limits.min, limits.max).astype(np.int16)


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
