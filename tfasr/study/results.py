"""What a study has found so far, a file for each reset, so that it can go on and be shared."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfasr.artifacts.files import read_json, write_json
from tfasr.study.reset import ResetErrors
from tfasr.study.resets import Reset
from tfasr.study.signals import Signal


class Results:
    """Errors of each reset of one model, on one evaluation set.

    Several processes may add to one folder.

    Args:
        folder: Where the studies of a run lie.
        settings: What the errors depend on; those of other settings lie in other folders.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder = folder / "errors" / key[:16]
        self.settings = dict(settings)

    def __contains__(self, reset: Reset) -> bool:
        return self._path(reset.name).is_file()

    def __getitem__(self, reset: Reset) -> ResetErrors:
        values = self._read(reset.name)
        first = np.array(values["reinitialised"], np.int64)
        fresh = np.array(values["rerandomised"], np.int64).reshape(-1, len(first))
        return ResetErrors(first, fresh, values["seconds"])

    def missing(self, resets: Iterable[Reset]) -> list[Reset]:
        """Those that were not tried yet, in an order that a study goes through fast."""
        return sorted(reset for reset in resets if reset not in self)

    def add(self, reset: Reset, errors: ResetErrors) -> None:
        """Keeps the errors of a reset."""
        rows = {
            "reinitialised": errors.reinitialised.tolist(),
            "rerandomised": errors.rerandomised.tolist(),
            "seconds": errors.seconds,
        }
        write_json(self._path(reset.name), rows)

    @property
    def has_intact(self) -> bool:
        """Whether the intact model was evaluated."""
        return self._path("intact").is_file()

    def add_intact(self, errors: NDArray[np.int64], words: NDArray[np.int64]) -> None:
        """Keeps the errors of the intact model and the reference words, [N] each."""
        write_json(self.folder / "settings.json", self.settings)
        rows = {"errors": errors.tolist(), "words": words.tolist()}
        write_json(self._path("intact"), rows)

    def intact(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Errors of the intact model, and reference words, [N] each."""
        values = self._read("intact")
        return np.array(values["errors"], np.int64), np.array(values["words"], np.int64)

    def signal(self, name: str, measure: Callable[[], Signal]) -> Signal:
        """Reads what a signal said, or measures it and keeps it."""
        path = self._path(f"signal-{name}")
        if not path.is_file():
            found = measure()
            write_json(path, {"values": found.values.tolist(), "seconds": found.seconds})
        values = read_json(path)
        return Signal(name=name, values=np.array(values["values"]), seconds=values["seconds"])

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = read_json(self._path(name))
        return values
