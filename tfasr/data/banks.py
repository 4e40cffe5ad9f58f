"""Recorded noise and rooms, held in memory and drawn from in a graph."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.audio.reading import AudioReader
from tfasr.configs.features import AugmentConfig
from tfasr.features.augment import repeated
from tfasr.features.fbank import INT16_SCALE

# What counts as a recording: collections of noise have notes and licences between them.
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .pcm .raw .sph .w64 .wav .wave".split()
)
# 922 MB at 16 kHz; MUSAN has 6 h of noise.
LONGEST_HOURS = 8.0


@dataclass(frozen=True, kw_only=True)
class RecordingBank:
    """Recordings one behind the other.

    Args:
        samples: [N] int16.
        starts: [R + 1] int64: where each recording starts, and where the last one ends.
    """

    samples: tf.Tensor
    starts: tf.Tensor

    @classmethod
    def of(cls, recordings: Sequence[NDArray[np.int16]]) -> "RecordingBank":
        """Holds recordings, int16 [T] with T at least 1 each."""
        ends = np.cumsum([len(recording) for recording in recordings], dtype=np.int64)
        return cls(
            samples=tf.convert_to_tensor(np.concatenate(recordings)),
            starts=tf.constant(np.concatenate([[0], ends]), tf.int64),
        )

    @classmethod
    def load(cls, folder: Path, reader: AudioReader) -> "RecordingBank":
        """Reads all recordings of a folder and the folders in it, in the order of their paths.

        Args:
            folder: Recordings are told from other files by their `SUFFIXES`.
            reader: How they are read, and at what sample rate.

        Raises:
            ValueError: There is none, one can't be read or is silent, or they last more than
                `LONGEST_HOURS`; names the folder or the file.
        """
        recordings = list(_read_all(folder, reader))
        if not recordings:
            raise ValueError(
                f"{folder}: must be a folder of recordings; no file in it ends in one of "
                f"{' '.join(sorted(SUFFIXES))}"
            )
        return cls.of(recordings)

    def pick(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws a whole recording.

        Args:
            seed: [2] integers.

        Returns:
            [T] float32 in [-1, 1].
        """
        return self._cut(*self._drawn(seed))

    def draw(self, seed: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        """Draws a recording and cuts so much of it out at a drawn place.

        Args:
            seed: [2] integers.
            num_samples: Scalar int32. A shorter recording is repeated.

        Returns:
            [num_samples] float32 in [-1, 1].
        """
        seeds = tf.random.experimental.stateless_split(seed, 2)
        start, length = self._drawn(seeds[0])
        kept = tf.minimum(length, tf.cast(num_samples, tf.int64))
        skipped = tf.random.stateless_uniform(
            [], seeds[1], 0, length - kept + 1, tf.int64, alg="philox"
        )
        return repeated(self._cut(start + skipped, kept), num_samples)

    def _drawn(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count = tf.size(self.starts) - 1
        number = tf.random.stateless_uniform([], seed, 0, count, tf.int32, alg="philox")
        return self.starts[number], self.starts[number + 1] - self.starts[number]

    def _cut(self, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        cut = tf.slice(self.samples, start[None], length[None])
        return tf.cast(cut, tf.float32) / INT16_SCALE


@dataclass(frozen=True, kw_only=True)
class Banks:
    """The recordings that augmentation draws from; where there are none, it makes its own.

    Args:
        noise: Recordings of noise.
        rooms: Impulse responses of rooms.
    """

    noise: RecordingBank | None = None
    rooms: RecordingBank | None = None

    @classmethod
    def load(cls, config: AugmentConfig, reader: AudioReader) -> "Banks":
        """Reads the folders that an augmentation asks for.

        Raises:
            ValueError: As for `RecordingBank.load`.
        """
        noise, rooms = config.noise_folder, config.reverb_folder
        return cls(
            noise=None if noise is None else RecordingBank.load(noise, reader),
            rooms=None if rooms is None else RecordingBank.load(rooms, reader),
        )


def _read_all(folder: Path, reader: AudioReader) -> Iterator[NDArray[np.int16]]:
    longest = LONGEST_HOURS * 3600 * reader.sample_rate
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        recording = reader.read(path)
        if not recording.any():
            raise ValueError(f"{path}: a recording to draw from must not be silent; remove it")
        total += len(recording)
        if total > longest:
            raise ValueError(
                f"{folder}: recordings to draw from must last at most {LONGEST_HOURS} h in all, "
                f"as they are held in memory; {path} is beyond that: move some elsewhere"
            )
        yield recording
