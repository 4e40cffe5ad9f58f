"""From utterances to their samples."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.decoding import Recording, open_recording, open_recording_bytes, to_rate
from tfasr.audio.utterance import CorpusError, Segment, Utterance
from tfasr.configs.audio import AudioConfig

# Manifests round offsets and durations, often to hundredths of a second.
END_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class AudioReader:
    """Reads recordings as a corpus's settings say, and parts of them without the rest.

    Whole recordings come out as by `read_audio` where the settings are the defaults.

    Args:
        sample_rate: Of the samples, in hertz.
        settings: Channels, raw files, limits.
    """

    sample_rate: int
    settings: AudioConfig = field(default_factory=AudioConfig)

    def read(self, path: Path) -> NDArray[np.int16]:
        """Reads a whole recording: int16 [T], T at least 1.

        Raises:
            CorpusError: As for `read_audio`; the recording lacks the channel or is longer than
                `longest_seconds`.
        """
        return self.read_part(path)

    def read_part(
        self, path: Path, offset: float = 0.0, duration: float = math.inf
    ) -> NDArray[np.int16]:
        """Reads a part of a recording, resampled without its surroundings.

        Args:
            path: The file.
            offset: Where the part starts, in seconds.
            duration: How long it is, in seconds; infinity means to the end.

        Returns:
            int16 [T], T at least 1.

        Raises:
            CorpusError: As for `read`, or the part does not lie in the recording.
        """
        with open_recording(path, self.settings) as recording:
            return self._read(recording, offset, duration, str(path))

    def read_bytes(
        self, data: bytes, name: str, offset: float = 0.0, duration: float = math.inf
    ) -> NDArray[np.int16]:
        """Reads a recording that is in memory, like `read_part`; messages call it `name`."""
        with open_recording_bytes(data, name) as recording:
            return self._read(recording, offset, duration, name)

    def read_utterance(self, utterance: Utterance) -> NDArray[np.int16]:
        """Reads the recording of an utterance, or the part of it that the utterance is.

        Raises:
            CorpusError: As for `read_part`; where the part is wrong, it names the origin.
        """
        path = utterance.audio_filepath
        if path is None:
            raise CorpusError(f"{utterance.origin}: must have an audio_filepath; got none")
        if not isinstance(utterance, Segment):
            return self.read(path)
        with open_recording(path, self.settings) as recording:
            return self._read(recording, utterance.offset, utterance.duration, utterance.origin)

    def seconds_of(self, path: Path) -> float:
        """Looks up how long a recording is, by its header alone.

        An MP3 without a header that has its length is estimated.

        Raises:
            CorpusError: There is no such recording, or its header belongs to no whole one.
        """
        with open_recording(path, self.settings) as recording:
            return recording.seconds

    def _read(
        self, recording: Recording, offset: float, duration: float, origin: str
    ) -> NDArray[np.int16]:
        rate, limit = recording.rate, self.settings.longest_seconds
        start, stop = _bounds(recording, offset, duration, origin)
        if recording.is_counted and stop - start > limit * rate:
            raise _too_long(f"{round((stop - start) / rate, 6)} s", limit, origin)
        # One more than the limit, so that what is longer than estimated shows.
        samples = recording.read(
            start=start,
            stop=min(stop, start + math.floor(limit * rate) + 1),
            channel=self.settings.channel,
        )
        if len(samples) > limit * rate:
            raise _too_long("more", limit, origin)
        if math.isfinite(duration) and len(samples) / rate < duration - END_TOLERANCE:
            raise _outside(offset, duration, (start + len(samples)) / rate, origin)
        return to_rate(samples, rate, self.sample_rate)


def _bounds(recording: Recording, offset: float, duration: float, origin: str) -> tuple[int, int]:
    """Gives a part's first sample and the one after its last."""
    seconds, rate = recording.seconds, recording.rate
    end = seconds if math.isinf(duration) else offset + duration
    if not (0 <= offset < seconds and duration > 0 and end <= seconds + END_TOLERANCE):
        raise _outside(offset, duration, seconds, origin)
    start, stop = round(offset * rate), min(round(end * rate), recording.num_samples)
    if start >= stop:
        raise _outside(offset, duration, seconds, origin)
    return start, stop


def _outside(offset: float, duration: float, seconds: float, origin: str) -> CorpusError:
    length = "all that follows" if math.isinf(duration) else f"{duration} s"
    return CorpusError(
        f"{origin}: offset and duration must lie in the recording; got {offset} s and {length} "
        f"of {round(seconds, 6)} s"
    )


def _too_long(seconds: str, limit: float, origin: str) -> CorpusError:
    return CorpusError(
        f"{origin}: an utterance must last at most {limit:g} s; got {seconds}: cut it into parts, "
        "with offset and duration or Kaldi segments, or raise --audio.longest_seconds"
    )


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
