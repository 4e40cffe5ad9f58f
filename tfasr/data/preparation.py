"""Writes a folder of prepared data, shard by shard, so that an interrupted job goes on."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.artifacts.files import read_json, sha256_of, write_json, write_json_lines
from tfasr.audio.decoding import write_wav
from tfasr.audio.manifest import Segment
from tfasr.audio.utterance import SPLITS, Corpus, CorpusError, Split, Utterance
from tfasr.configs.loading import to_mapping
from tfasr.configs.prepare import PrepareConfig
from tfasr.data.prepared import INDEX
from tfasr.data.shards import Record, write_shard
from tfasr.features.fbank import INT16_SCALE, fbank
from tfasr.text.normalizer import normalise
from tfasr.text.tokenizer import Tokenizer, train_tokenizer

# Bins that never vary, such as those above a telephone's band, are not blown up.
_LEAST_DEVIATION = 1e-2
# Names what an unfinished preparation was begun on.
_LISTING = "listing.json"


@dataclass(frozen=True)
class _Shard:
    """One shard to write: which, and the utterances in it with their numbers."""

    split: Split
    index: int
    first_number: int
    utterances: Sequence[Utterance]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.index:05d}"


class Preparation:
    """Prepares a corpus into `config.out`.

    All work is done in `OUT.partial`, which becomes `OUT` when everything is in it.

    Args:
        corpus: The corpus.
        config: Where to, and how.

    Raises:
        ValueError: The folder or its partial one holds data made with other settings.
    """

    def __init__(self, corpus: Corpus, config: PrepareConfig) -> None:
        self.corpus = corpus
        self.config = config
        self.partial = config.out.with_name(config.out.name + ".partial")
        self._fbank = tf.function(
            lambda waveform: fbank(waveform[None], config.fbank)[0],
            input_signature=[tf.TensorSpec([None], tf.float32)],
        )
        settings = to_mapping(config)
        # Neither where the data goes nor what stops it changes what is in it.
        settings["shards"].pop("on_error")
        self.settings = {k: v for k, v in settings.items() if k != "out"}
        for folder in (config.out, self.partial):
            self._refuse_other_settings(folder)

    def _refuse_other_settings(self, folder: Path) -> None:
        marker = folder / "settings.json"
        if not folder.exists() or (marker.is_file() and read_json(marker) == self.settings):
            return
        if marker.is_file():
            before = read_json(marker)
            changed = [k for k in self.settings if before.get(k) != self.settings[k]]
            reason = f"was made with another {', '.join(changed)}"
        else:
            reason = "exists and is no prepared data"
        raise ValueError(f"{folder}: {reason}; choose another --out or remove it")

    @property
    def is_done(self) -> bool:
        """Whether the data is already there."""
        return (self.config.out / INDEX).is_file()

    def run(self, report: Callable[[int, int], None]) -> None:
        """Writes what is missing.

        Args:
            report: Called with the utterances done and their total.

        Raises:
            ValueError: An entry is unusable and `on_error` is "error"; names file and line.
        """
        if not (self.partial / INDEX).is_file():
            (self.partial / "audio").mkdir(parents=True, exist_ok=True)
            write_json(self.partial / "settings.json", self.settings)
            utterances, skipped = self._usable_utterances()
            self._forget_another_listing(utterances)
            tokenizer = self._tokenizer(utterances)
            self._write_shards(utterances, tokenizer, report)
            self._write_index(utterances, skipped)
        for sidecar in (self.partial / "shards").glob("*.json"):
            sidecar.unlink()
        (self.partial / _LISTING).unlink(missing_ok=True)
        # What a killed process was writing.
        for half in list(self.partial.rglob(".*")):
            if half.is_dir():
                shutil.rmtree(half)
        self.partial.rename(self.config.out)

    def _usable_utterances(self) -> tuple[list[Utterance], list[str]]:
        utterances, problems = self.corpus.utterances()
        empty = [u for u in utterances if not normalise(u.text)]
        problems = [*problems, *(CorpusError(f"{u.origin}: must have text") for u in empty)]
        skipped = [self._skip(problem) for problem in problems]
        usable = [u for u in utterances if normalise(u.text)]
        if not usable:
            raise ValueError(f"{self.config.source}: holds no usable utterance")
        return usable, skipped

    def _forget_another_listing(self, utterances: Sequence[Utterance]) -> None:
        """Throws away what was made before the corpus changed."""
        listing = hashlib.sha256(repr(utterances).encode()).hexdigest()
        marker = self.partial / _LISTING
        if marker.is_file() and read_json(marker) == listing:
            return
        for name in ("shards", "audio"):
            shutil.rmtree(self.partial / name, ignore_errors=True)
        (self.partial / "audio").mkdir()
        (self.partial / "tokenizer.model").unlink(missing_ok=True)
        write_json(marker, listing)

    def _skip(self, problem: CorpusError) -> str:
        if self.config.shards.on_error == "error":
            raise ValueError(f"{problem} (--shards.on_error skip counts such entries and goes on)")
        return str(problem)

    def _is_learned_from(self, utterance: Utterance) -> bool:
        withheld = self.config.shards.withheld_domains
        return utterance.split == "train" and utterance.domain not in withheld

    def _tokenizer(self, utterances: Sequence[Utterance]) -> Tokenizer | None:
        texts = [normalise(u.text) for u in utterances if self._is_learned_from(u)]
        path = self.partial / "tokenizer.model"
        if not texts:
            return None
        if not path.is_file():
            train_tokenizer(texts, self.config.tokenizer, path)
        return Tokenizer(path)

    def _write_shards(
        self,
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer | None,
        report: Callable[[int, int], None],
    ) -> None:
        done = 0
        for shard in self._shards(utterances):
            if not self._is_written(shard):
                self._write_shard(shard, tokenizer)
            done += len(shard.utterances)
            report(done, len(utterances))

    def _shards(self, utterances: Sequence[Utterance]) -> Iterator[_Shard]:
        size = self.config.shards.utterances
        for split in SPLITS:
            own = [utterance for utterance in utterances if utterance.split == split]
            for index, first in enumerate(range(0, len(own), size)):
                yield _Shard(split, index, first, own[first : first + size])

    def _is_written(self, shard: _Shard) -> bool:
        """Whether a shard is there, and is as `on_error` wants it."""
        sidecar = self._sidecar(shard)
        if not sidecar.is_file():
            return False
        return self.config.shards.on_error == "skip" or not read_json(sidecar)["skipped"]

    def _sidecar(self, shard: _Shard) -> Path:
        return self.partial / "shards" / f"{shard.name}.json"

    def _write_shard(self, shard: _Shard, tokenizer: Tokenizer | None) -> None:
        rate = self.config.fbank.sample_rate
        records, rows, skipped = [], [], []
        statistics = _FrameSums(self.config.fbank.num_mels)
        audio = self.corpus.samples(shard.utterances)
        for number, (utterance, samples) in enumerate(
            zip(shard.utterances, audio, strict=True), start=shard.first_number
        ):
            if isinstance(samples, CorpusError):
                problem = str(samples)
                if utterance.origin and not problem.startswith(utterance.origin):
                    problem = f"{utterance.origin}: {problem}"
                skipped.append(self._skip(CorpusError(problem)))
                continue
            text = normalise(utterance.text)
            records.append(
                Record(
                    utterance_id=utterance.utterance_id,
                    number=number,
                    samples=samples,
                    tokens=tokenizer.encode(text) if tokenizer else [],
                    text=text,
                    speaker=utterance.speaker,
                    domain=utterance.domain,
                )
            )
            rows.append(self._manifest_row(utterance, text, samples))
            if self._is_learned_from(utterance):
                statistics.add(self._features(samples))
        file = self.partial / "shards" / f"{shard.name}.tfrecord"
        write_shard(file, records)
        about = {
            "file": f"shards/{shard.name}.tfrecord",
            "utterances": len(records),
            "seconds": sum(len(record.samples) for record in records) / rate,
            "sha256": sha256_of(file),
        }
        sidecar = {
            "about": about,
            "rows": rows,
            "skipped": skipped,
            "sums": statistics.to_json(),
        }
        write_json(self._sidecar(shard), sidecar)

    def _manifest_row(
        self, utterance: Utterance, text: str, samples: NDArray[np.int16]
    ) -> dict[str, Any]:
        rate = self.config.fbank.sample_rate
        if utterance.audio_filepath is None:
            where = f"audio/{utterance.utterance_id}.wav"
            write_wav(self.partial / where, samples, rate)
        else:
            where = str(utterance.audio_filepath.resolve())
        return {
            "id": utterance.utterance_id,
            "audio_filepath": where,
            "duration": round(len(samples) / rate, 4),
            "text": text,
            "speaker": utterance.speaker,
            "domain": utterance.domain,
            **({"offset": utterance.offset} if isinstance(utterance, Segment) else {}),
        }

    def _features(self, samples: NDArray[np.int16]) -> NDArray[np.float64]:
        if len(samples) < self.config.fbank.frame_length:
            return np.zeros((0, self.config.fbank.num_mels))
        waveform = (samples / INT16_SCALE).astype(np.float32)
        return np.asarray(self._fbank(waveform), np.float64)

    def _write_index(self, utterances: Sequence[Utterance], skipped: list[str]) -> None:
        splits: dict[str, Any] = {}
        sums = _FrameSums(self.config.fbank.num_mels)
        sidecars = [(s.split, read_json(self._sidecar(s))) for s in self._shards(utterances)]
        for split in SPLITS:
            own = [values for name, values in sidecars if name == split]
            shards = [values["about"] for values in own if values["about"]["utterances"]]
            rows = [row for values in own for row in values["rows"]]
            write_json_lines(self.partial / f"{split}.jsonl", rows)
            skipped += [reason for values in own for reason in values["skipped"]]
            splits[split] = {
                "utterances": len(rows),
                "seconds": round(sum(row["duration"] for row in rows), 2),
                "shards": shards,
            }
            for values in own:
                sums.merge(values["sums"])
        if sums.count:
            write_json(self.partial / "cmvn.json", sums.statistics())
        index = {
            "sample_rate": self.config.fbank.sample_rate,
            "fbank": self.settings["fbank"],
            "withheld_domains": self.settings["shards"]["withheld_domains"],
            "splits": splits,
            "skipped": skipped,
        }
        write_json(self.partial / INDEX, index)


class _FrameSums:
    """Sums over frames, from which mean and deviation follow."""

    def __init__(self, num_mels: int) -> None:
        self.count = 0
        self.sum = np.zeros(num_mels)
        self.squares = np.zeros(num_mels)

    def add(self, frames: NDArray[np.float64]) -> None:
        self.count += len(frames)
        self.sum += frames.sum(0)
        self.squares += (frames**2).sum(0)

    def merge(self, values: dict[str, Any]) -> None:
        self.count += values["count"]
        self.sum += values["sum"]
        self.squares += values["squares"]

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "sum": list(self.sum), "squares": list(self.squares)}

    def statistics(self) -> dict[str, Any]:
        mean = self.sum / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
        return {"frames": self.count, "mean": list(mean), "deviation": list(deviation)}
