"""Writes a folder of prepared data, shard by shard, so that an interrupted job goes on."""

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfasr.artifacts.files import FULL, read_json, write_json, write_json_lines
from tfasr.audio.corpora import open_corpus
from tfasr.audio.splits import shared_speakers
from tfasr.audio.utterance import SPLITS, CorpusError, Utterance
from tfasr.configs.loading import to_mapping
from tfasr.configs.prepare import INDEX, PrepareConfig
from tfasr.preparation.frame_sums import FrameSums
from tfasr.preparation.runners import open_runner
from tfasr.preparation.shard_tasks import ShardTask, is_learned_from, shard_tasks, skip_reason
from tfasr.text.normalizer import normalise
from tfasr.text.tokenizer import copy_tokenizer, train_tokenizer

# Names what an unfinished preparation was begun on.
_LISTING = "listing.json"

# They change where and how data is made, not what is in it.
_WITHOUT_EFFECT = {
    *("out", "report", "runner", "runner_options", "jobs", "synthetic.jobs"),
    "shards.on_error",
}
# They let more or less of the corpus in. What an unfinished preparation has of it stays usable.
_ADMITTING = {
    *("audio.longest_seconds", "kaldi.commands", "manifest.root", "splits.shared_speakers"),
}


class Preparation:
    """Prepares a corpus into `config.out`.

    All work is done in `OUT.partial`, which becomes `OUT` when everything is in it.

    Args:
        config: Which corpus, where to, and how.

    Raises:
        ValueError: The folder has no name, or it or its partial one holds data made with other
            settings or something else.
    """

    def __init__(self, config: PrepareConfig) -> None:
        self.config = config
        if config.out.name in ("", ".."):
            raise ValueError(f"out must end in the name of a folder; got out={config.out}")
        self.partial = config.out.with_name(config.out.name + ".partial")
        self.settings = _without(to_mapping(config), _WITHOUT_EFFECT)
        self._refuse_other_settings(config.out, frozenset())
        self._refuse_hidden_files()
        if any((self.partial / "shards").glob("*.tfrecord*")):
            self._refuse_other_settings(self.partial, _ADMITTING)

    def _refuse_other_settings(self, folder: Path, free: Collection[str]) -> None:
        if not _is_filled(folder):
            return
        marker = folder / "settings.json"
        if not marker.is_file():
            raise ValueError(
                f"{folder}: exists and is no prepared data; choose another --out or remove it"
            )
        before, now = (_flat(_without(s, free)) for s in (read_json(marker), self.settings))
        changed = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        if changed:
            raise ValueError(
                f"{folder}: was made with another {', '.join(changed)}; "
                "choose another --out or remove it"
            )

    def _refuse_hidden_files(self) -> None:
        out = self.config.out
        hidden = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
        # With them, the partial folder could not take the name when all is done.
        if hidden and not _is_filled(out):
            raise ValueError(
                f"{out}: must be empty or not exist; got {', '.join(hidden)} in it; "
                "choose another --out or remove it"
            )

    @property
    def is_done(self) -> bool:
        """Whether the data is already there."""
        return (self.config.out / INDEX).is_file()

    def run(self, report: Callable[[int, int], None]) -> None:
        """Writes what is missing.

        Args:
            report: Called with the utterances done and their total.

        Raises:
            ModuleNotFoundError: The runner is not installed.
            ValueError: An entry is unusable and `on_error` is "error"; names file and line.
            OSError: A file can't be written or a recording can't be reached; names it.
        """
        try:
            if not (self.partial / INDEX).is_file():
                self._write(report)
            self._finish()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise OSError(
                f"{error.filename}: must fit on its disk; {error.strerror} "
                "(make space and run the same command to go on)"
            ) from None

    def _write(self, report: Callable[[int, int], None]) -> None:
        # First, as a wrong one should be told before a long listing.
        runner = open_runner(self.config)
        utterances, skipped = self._usable_utterances()
        listing = self._begin(utterances)
        self._write_tokenizer(utterances)
        # Absolute, as a worker may have another working directory.
        folder = self.partial.absolute()
        tasks = list(shard_tasks(self.config, folder, listing, utterances))
        missing = [task for task in tasks if not task.is_written]
        total = len(utterances)
        done = total - sum(len(task.utterances) for task in missing)
        report(done, total)
        for task in runner(missing):
            done += len(task.utterances)
            report(done, total)
        self._write_index(tasks, skipped, len(shared_speakers(utterances)))

    def _usable_utterances(self) -> tuple[list[Utterance], list[str]]:
        listed, problems = open_corpus(self.config).utterances()
        origins: dict[str, str] = {}
        usable = []
        for utterance in listed:
            name, origin = utterance.utterance_id, utterance.origin
            if not normalise(utterance.text):
                problems.append(CorpusError(f"{origin}: must have text; got none for {name}"))
            elif name in origins:
                problems.append(
                    CorpusError(f"{origin}: an id must be given once; {name} is {origins[name]}'s")
                )
            else:
                origins[name] = origin
                usable.append(utterance)
        skipped = [skip_reason(problem, self.config) for problem in problems]
        if not usable:
            raise ValueError(f"{self.config.source}: holds no usable utterance")
        return usable, skipped

    def _begin(self, utterances: Sequence[Utterance]) -> str:
        """Throws away what was made before the corpus changed; gives its listing's hash."""
        digest = hashlib.sha256()
        for utterance in utterances:
            digest.update(f"{utterance!r}\n".encode())
        listing = digest.hexdigest()
        write_json(self.partial / "settings.json", self.settings)
        marker = self.partial / _LISTING
        if not marker.is_file() or read_json(marker) != listing:
            for name in ("shards", "audio"):
                shutil.rmtree(self.partial / name, ignore_errors=True)
            (self.partial / "tokenizer.model").unlink(missing_ok=True)
            write_json(marker, listing)
        (self.partial / "audio").mkdir(exist_ok=True)
        return listing

    def _write_tokenizer(self, utterances: Sequence[Utterance]) -> None:
        path = self.partial / "tokenizer.model"
        texts = [normalise(u.text) for u in utterances if is_learned_from(u, self.config)]
        if path.is_file():
            return
        if self.config.tokenizer.model is not None:
            copy_tokenizer(self.config.tokenizer.model, path)
        elif texts:
            train_tokenizer(texts, self.config.tokenizer, path)

    def _write_index(self, tasks: Sequence[ShardTask], skipped: list[str], num_shared: int) -> None:
        splits: dict[str, Any] = {}
        sums = FrameSums(self.config.fbank.num_mels)
        for split in SPLITS:
            total = _SplitTotal(sums)
            sidecars = (task.sidecar for task in tasks if task.split == split)
            write_json_lines(self.partial / f"{split}.jsonl", total.rows(sidecars))
            splits[split] = total.to_json()
            skipped += total.skipped
        if not any(values["utterances"] for values in splits.values()):
            raise ValueError(
                f"{self.config.source}: holds no usable utterance; the first is {skipped[0]}"
            )
        if sums.count:
            write_json(self.partial / "cmvn.json", sums.statistics())
        index = {
            "sample_rate": self.config.fbank.sample_rate,
            "fbank": self.settings["fbank"],
            "withheld_domains": self.settings["shards"]["withheld_domains"],
            "compression": self.config.shards.compression,
            "splits": splits,
            "skipped": skipped,
            "shared_speakers": num_shared,
            "settings": self.settings,
        }
        write_json(self.partial / INDEX, index)

    def _finish(self) -> None:
        """Removes what only an unfinished preparation needs, and gives the folder its name."""
        for sidecar in (self.partial / "shards").glob("*.json"):
            sidecar.unlink()
        (self.partial / _LISTING).unlink(missing_ok=True)
        shutil.rmtree(self.partial / "tasks", ignore_errors=True)
        # What a killed process was writing.
        for half in list(self.partial.rglob(".*")):
            if half.is_dir():
                shutil.rmtree(half)
        self.partial.rename(self.config.out)


class _SplitTotal:
    """Adds up the sidecars of a split's shards, one at a time.

    Args:
        sums: Of frames; added to.
    """

    def __init__(self, sums: FrameSums) -> None:
        self.sums = sums
        self.skipped: list[str] = []
        self.shards: list[dict[str, Any]] = []
        self.seconds = 0.0

    def rows(self, sidecars: Iterator[Path]) -> Iterator[dict[str, Any]]:
        """Yields the manifest's rows, and counts them."""
        for sidecar in sidecars:
            values = read_json(sidecar)
            self.skipped += values["skipped"]
            self.sums.merge(values["sums"])
            if values["rows"]:
                self.shards.append(values["about"])
            for row in values["rows"]:
                self.seconds += row["duration"]
                yield row

    def to_json(self) -> dict[str, Any]:
        """What `data.json` says of the split."""
        names = ("utterances", "tokens", "unknown_tokens")
        return {
            **{name: sum(shard[name] for shard in self.shards) for name in names},
            "seconds": round(self.seconds, 2),
            "skipped": len(self.skipped),
            "shards": self.shards,
        }


def _is_filled(folder: Path) -> bool:
    if folder.is_dir():
        # What a killed process was writing is hidden.
        return any(not path.name.startswith(".") for path in folder.iterdir())
    return folder.exists()


def _without(settings: dict[str, Any], names: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Leaves out settings that are named as on the command line."""
    return {
        key: _without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in settings.items()
        if f"{prefix}{key}" not in names
    }


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Names settings as on the command line."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
