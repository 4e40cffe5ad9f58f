"""The version of a model that is served: new ones are picked up while requests are answered."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfasr.serving.inputs import one_line
from tfasr.serving.runtime import ServedModel, complete_versions

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VersionState:
    """How a version stands, in the words of TensorFlow Serving.

    Args:
        version: Its number.
        state: "AVAILABLE" is the one that answers, "LOADING" comes next, "END" was refused.
        reason: Why it was refused, on one line; "" for the others.
    """

    version: int
    state: Literal["AVAILABLE", "LOADING", "END"]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    mark: tuple[int, int]
    reason: str


class Versions:
    """Serves the newest version of a model that can be loaded.

    A request takes `current` once and stays with it, so a switch changes nothing under it, and
    a version that is no longer served is freed with its last request. A version that can't be
    loaded is refused until its files change. Where the newest folder is removed, the one before
    it is served again.

    Args:
        folder: The folder `saved_models/NAME`.
        max_seconds: Longest utterance, in seconds.

    Raises:
        ValueError: The newest version can't be loaded, or there is none.
    """

    def __init__(self, folder: Path, *, max_seconds: float) -> None:
        self.folder = folder
        self.max_seconds = max_seconds
        self.current = self._loaded("newest")
        self._loading: int | None = None
        self._refused: dict[int, _Refusal] = {}

    def states(self) -> list[VersionState]:
        """Lists the versions that are known, the one that answers first."""
        states = [VersionState(version=self.current.version, state="AVAILABLE")]
        if self._loading is not None:
            states.append(VersionState(version=self._loading, state="LOADING"))
        for version, refusal in sorted(self._refused.items()):
            states.append(VersionState(version=version, state="END", reason=refusal.reason))
        return states

    @asynccontextmanager
    async def watched(self, poll_seconds: float) -> AsyncIterator[None]:
        """Looks for versions every so many seconds while the block runs."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(poll_seconds)
                try:
                    await self.refresh()
                except OSError as error:  # Folders may go while they are looked at.
                    _LOG.warning("%s: %s; looking again", self.folder, error.strerror)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def refresh(self) -> None:
        """Looks for versions once, and switches where there is a better one."""
        version = await asyncio.to_thread(self._wanted)
        if version == self.current.version:
            return
        self._loading = version
        mark = await asyncio.to_thread(_mark, self.folder / str(version))
        try:
            loaded = await asyncio.to_thread(self._loaded, version)
        except Exception as error:  # Whatever is wrong with it, the one that answers stays.
            reason = one_line(str(error))
            if not isinstance(error, ValueError):
                reason = f"{self.folder / str(version)}: {type(error).__name__}; {reason}"
            self._refused[version] = _Refusal(mark=mark, reason=reason)
            _LOG.warning("%s; version %d goes on being served", reason, self.current.version)
            return
        finally:
            self._loading = None
        _LOG.warning("version %d is served in place of %d", version, self.current.version)
        self.current = loaded

    def _loaded(self, version: int | Literal["newest"]) -> ServedModel:
        model = ServedModel(self.folder, version=version, max_seconds=self.max_seconds)
        model.warm_up()
        return model

    def _wanted(self) -> int:
        try:
            versions = complete_versions(self.folder)
        except OSError:
            return self.current.version  # The folder is being moved: what is in memory stays.
        for version in list(self._refused):
            changed = _mark(self.folder / str(version)) != self._refused[version].mark
            if version not in versions or changed:
                del self._refused[version]
        return next((v for v in versions if v not in self._refused), self.current.version)


def _mark(folder: Path) -> tuple[int, int]:
    """Tells whether a folder's files have changed: how many there are, and the latest time."""
    times = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime_ns)
    return len(times), max(times, default=0)
