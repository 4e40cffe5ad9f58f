"""A small corpus, its preparation, and looks into what came of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfasr.configs.prepare import PrepareConfig
from tfasr.data.prepared import PreparedData
from tfasr.preparation.preparation import Preparation


@pytest.fixture
def config(
    write_corpus: Callable[..., Path], prepare_config: Callable[..., PrepareConfig], tmp_path: Path
) -> PrepareConfig:
    """Six training, two validation and two test utterances, four a shard."""
    corpus = write_corpus(tmp_path / "corpus", train=6, valid=2, test=2)
    return prepare_config(corpus, tmp_path / "data")


@pytest.fixture(scope="session")
def prepare() -> Callable[[PrepareConfig], PreparedData]:
    def run(config: PrepareConfig) -> PreparedData:
        Preparation(config).run(lambda done, total: None)
        return PreparedData(config.out)

    return run


@pytest.fixture(scope="session")
def interrupt() -> Callable[[PrepareConfig, int], None]:
    """Presses Ctrl-C when so many utterances are done."""

    def run(config: PrepareConfig, after: int) -> None:
        def press(done: int, total: int) -> None:
            if done >= after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Preparation(config).run(press)

    return run


@pytest.fixture(scope="session")
def contents_of() -> Callable[[Path], dict[str, bytes]]:
    """All files of a folder, by name."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read


@pytest.fixture(scope="session")
def edit_line() -> Callable[..., None]:
    """Changes fields of a line, counted from 1; None takes a field out."""

    def edit(path: Path, number: int, **changes: Any) -> None:
        lines = path.read_text().splitlines()
        row = {**json.loads(lines[number - 1]), **changes}
        lines[number - 1] = json.dumps({k: v for k, v in row.items() if v is not None})
        path.write_text("\n".join(lines) + "\n")

    return edit
