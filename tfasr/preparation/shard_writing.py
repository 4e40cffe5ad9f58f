"""Writes one shard: its bytes are a function of its task alone, whatever process it runs in."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.artifacts.files import names_the_full, sha256_of, write_json_lines
from tfasr.audio.corpora import open_corpus
from tfasr.audio.decoding import write_wav
from tfasr.audio.utterance import Corpus, CorpusError, Segment, Utterance
from tfasr.configs.features import FbankConfig
from tfasr.configs.prepare import PrepareConfig
from tfasr.data.shards import Record, write_shard
from tfasr.features.fbank import INT16_SCALE, fbank
from tfasr.preparation.frame_sums import FrameSums
from tfasr.preparation.shard_tasks import ShardTask, is_learned_from, skip_reason
from tfasr.text.normalizer import normalise
from tfasr.text.tokenizer import UNKNOWN, Tokenizer

# Frames whose features are computed at once: 30 s where they are 10 ms apart.
_BLOCK = 3000


def write_task(task: ShardTask) -> None:
    """Writes a task's shard, the recordings that its corpus makes, and last its sidecar.

    Raises:
        ValueError: An utterance is unusable and may not be skipped; names file and line.
        OSError: A file can't be written; has its name.
    """
    shard = _Shard(task)
    file = task.folder / task.file
    write_shard(file, shard.records(), task.config.shards.compression)
    about = {"file": task.file, **shard.counts, "sha256": sha256_of(file)}
    if not shard.rows:
        file.unlink()
    sidecar = {
        "about": about,
        "rows": shard.rows,
        "skipped": shard.skipped,
        "longest_seconds": task.config.audio.longest_seconds,
        "sums": shard.frames.sums().to_json(),
    }
    # On one line: Python writes that ten times faster.
    write_json_lines(task.sidecar, [sidecar])


@lru_cache(maxsize=1)
def _corpus(config: PrepareConfig, listing: str) -> Corpus:
    # By listing too: a corpus that has changed since is another one.
    return open_corpus(config)


def _encoded(texts: list[str], model: Path) -> list[list[int]]:
    if not model.is_file():
        return [[] for _ in texts]
    tokenizer = Tokenizer(model)
    return [tokenizer.encode(text) for text in texts]


@lru_cache(maxsize=1024)
def _resolved(folder: Path) -> Path:
    # Every part of a path is looked up, and a folder has many recordings.
    return folder.resolve()


class _Shard:
    """Reads the utterances of a task, once, and keeps what is to be known of them."""

    def __init__(self, task: ShardTask) -> None:
        self.task = task
        self.rate = task.config.fbank.sample_rate
        self.texts = [normalise(utterance.text) for utterance in task.utterances]
        self.tokens = _encoded(self.texts, task.folder / "tokenizer.model")
        self.frames = FrameBlocks(task.config.fbank)
        self.rows: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.counts = {"utterances": 0, "seconds": 0.0, "tokens": 0, "unknown_tokens": 0}
        self._samples = 0

    def records(self) -> Iterator[Record]:
        task = self.task
        audio = _corpus(task.config, task.listing).samples(task.utterances)
        for place, samples in zip(range(len(task.utterances)), audio, strict=True):
            if isinstance(samples, CorpusError):
                self._skip(task.utterances[place], samples)
            else:
                yield self._record(place, samples)

    def _skip(self, utterance: Utterance, error: CorpusError) -> None:
        problem = str(error)
        if utterance.origin and not problem.startswith(utterance.origin):
            problem = f"{utterance.origin}: {problem}"
        self.skipped.append(skip_reason(CorpusError(problem), self.task.config))

    def _record(self, place: int, samples: NDArray[np.int16]) -> Record:
        utterance = self.task.utterances[place]
        text, tokens = self.texts[place], self.tokens[place]
        self.rows.append(self._manifest_row(utterance, text, samples))
        if is_learned_from(utterance, self.task.config):
            self.frames.add(samples)
        self._samples += len(samples)
        self.counts["utterances"] += 1
        self.counts["seconds"] = self._samples / self.rate
        self.counts["tokens"] += len(tokens)
        self.counts["unknown_tokens"] += tokens.count(UNKNOWN)
        return Record(
            utterance_id=utterance.utterance_id,
            number=self.task.first_number + place,
            samples=samples,
            tokens=tokens,
            text=text,
            speaker=utterance.speaker,
            domain=utterance.domain,
        )

    def _manifest_row(
        self, utterance: Utterance, text: str, samples: NDArray[np.int16]
    ) -> dict[str, Any]:
        if utterance.audio_filepath is None:
            where = f"audio/{utterance.utterance_id}.wav"
            with names_the_full(self.task.folder / where):
                write_wav(self.task.folder / where, samples, self.rate)
        else:
            path = utterance.audio_filepath
            where = str(_resolved(path.parent) / path.name)
        return {
            "id": utterance.utterance_id,
            "audio_filepath": where,
            # Fine enough that the number of samples follows from it.
            "duration": round(len(samples) / self.rate, 6),
            "text": text,
            "speaker": utterance.speaker,
            "domain": utterance.domain,
            **({"offset": utterance.offset} if isinstance(utterance, Segment) else {}),
        }


@lru_cache(maxsize=1)
def _features(config: FbankConfig) -> Any:
    return tf.function(
        lambda waveform: fbank(waveform[None], config)[0],
        input_signature=[tf.TensorSpec([None], tf.float32)],
    )


class FrameBlocks:
    """Features of utterances that are laid end to end, block by block, and their sums.

    One call for many short utterances is an order of magnitude faster than one for each, and
    a long utterance takes no more memory than a block.

    Args:
        config: The filterbank.
    """

    def __init__(self, config: FbankConfig) -> None:
        self.config = config
        self._sums = FrameSums(config.num_mels)
        self._waiting: list[NDArray[np.int16]] = []
        self._whole: list[NDArray[np.bool_]] = []
        self._hops = 0

    def add(self, samples: NDArray[np.int16]) -> None:
        """Adds the frames of an utterance, int16 [T]."""
        shift = self.config.frame_shift
        frames = 1 + (len(samples) - self.config.frame_length) // shift
        if frames < 1:
            return
        hops = -(-len(samples) // shift)
        whole_hops = np.zeros(hops * shift, np.int16)
        whole_hops[: len(samples)] = samples
        self._waiting.append(whole_hops)
        # The frames after these reach into the next utterance.
        self._whole.append(np.arange(hops) < frames)
        self._hops += hops
        if self._hops >= 2 * _BLOCK:
            self._compute(self._hops // _BLOCK - 1)

    def sums(self) -> FrameSums:
        """Sums over all frames of what was added."""
        self._compute(-(-self._hops // _BLOCK))
        return self._sums

    def _compute(self, blocks: int) -> None:
        if not blocks:
            return
        samples, whole = np.concatenate(self._waiting), np.concatenate(self._whole)
        shift, length = self.config.frame_shift, self.config.frame_length
        behind = max(length - shift, 0)
        for first in range(0, blocks * _BLOCK, _BLOCK):
            block = samples[first * shift : (first + _BLOCK) * shift + behind]
            waveform = (block / INT16_SCALE).astype(np.float32)
            frames = np.asarray(_features(self.config)(waveform), np.float64)
            self._sums.add(frames[whole[first : first + len(frames)]])
        done = blocks * _BLOCK
        self._waiting, self._whole = [samples[done * shift :]], [whole[done:]]
        self._hops = len(self._whole[0])
