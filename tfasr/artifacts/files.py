"""Atomic files and folders, JSON lines and hashes."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What a full disk, a full quota and a file system's largest file are called.
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@contextmanager
def names_the_full(path: Path) -> Iterator[None]:
    """Says which file did not fit: a full disk's own error does not.

    Raises:
        OSError: The block raised one of `FULL` without a file name; this one has `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes `path`'s name when the block succeeds.

    Works for a file and for a folder. On an error nothing is left behind, and what stood at
    `path` before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with names_the_full(path):
            yield staging / path.name
            _replace(staging / path.name, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(new: Path, path: Path) -> None:
    _sync(new)
    if not (new.is_dir() and path.is_dir()):
        os.replace(new, path)
        return
    # A folder can't replace one that is not empty: the old one steps aside, and comes back
    # where the new one can't be put.
    aside = path.with_name(f".{path.name}.replaced")
    path.rename(aside)
    try:
        os.replace(new, path)
    except BaseException:
        aside.rename(path)
        raise
    shutil.rmtree(aside)


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file or nothing."""
    with atomic_path(path) as staged:
        staged.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing."""
    with atomic_path(path) as staged:
        staged.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Writes a whole, indented JSON file or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: The file is missing or no JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON; {error}") from None


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a whole file of one JSON object a line, or nothing; takes the rows one by one."""
    with atomic_path(path) as staged, staged.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Adds one line to a log in a single write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line.

    Raises:
        ValueError: The file is missing, or a line is no JSON object; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be UTF-8; {error}") from None
    rows = []
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: no JSON; {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: must be a JSON object; got {line[:80]}")
        rows.append(row)
    return rows


def sha256_of(path: Path) -> str:
    """Hashes a file, or all files of a folder by name and content, as hexadecimal SHA-256."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
