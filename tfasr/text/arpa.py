"""N-gram language models as ARPA text files."""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfasr.artifacts.files import atomic_path

UNKNOWN_WORD = "<unk>"
BEGIN = "<s>"
END = "</s>"
# How ARPA files write log10 of zero.
NEVER = -99.0
_ROWS = 100_000


@dataclass(frozen=True)
class NgramOrder:
    """The M n-grams of one order, sorted by context and word.

    Args:
        contexts: [M] int, the row of an n-gram's first n - 1 words in the order below; 0 where
            there is none.
        words: [M] int, the last word.
        log_probabilities: [M] float, log10.
        backoffs: [M] float, log10; zeros in the highest order.
    """

    contexts: NDArray[np.int64]
    words: NDArray[np.int64]
    log_probabilities: NDArray[np.float64]
    backoffs: NDArray[np.float64]


@dataclass(frozen=True)
class Arpa:
    """A back-off language model.

    Args:
        words: W words; an n-gram's words are indices of it.
        orders: Orders 1, 2 and so on; the n-grams of order 1 are the words in their order.
    """

    words: list[str]
    orders: list[NgramOrder]


def is_word(text: str) -> bool:
    """Whether a text can stand in an ARPA file as one word."""
    return text.split() == [text]


def arpa_words(pieces: Sequence[str]) -> list[str]:
    """Names a tokenizer's pieces: the unknown piece, which has spaces, is `<unk>`."""
    return [piece if is_word(piece) else UNKNOWN_WORD for piece in pieces]


def write_arpa(
    path: Path, words: Sequence[str], counts: Sequence[int], orders: Iterable[NgramOrder]
) -> None:
    """Writes a language model whole or not at all; takes its orders one by one.

    Args:
        path: The file.
        words: W words.
        counts: N-grams of each order.
        orders: The n-grams of each order.
    """
    names = np.array(words, dtype=object)
    spelt = np.zeros([1, 0], np.int32)  # [M of the order below, n - 1]
    with atomic_path(path) as staged, staged.open("w", encoding="utf-8", newline="\n") as handle:
        handle.write("\\data\\\n")
        handle.writelines(f"ngram {n}={count}\n" for n, count in enumerate(counts, start=1))
        for n, level in enumerate(orders, start=1):
            spelt = np.column_stack([spelt[level.contexts], level.words.astype(np.int32)])
            handle.write(f"\n\\{n}-grams:\n")
            # A part at a time, as a string takes many times the room of its indices.
            for first in range(0, len(spelt), _ROWS):
                part = slice(first, first + _ROWS)
                rows = zip(
                    level.log_probabilities[part].tolist(),
                    names[spelt[part]].tolist(),
                    level.backoffs[part].tolist(),
                    strict=True,
                )
                if n < len(counts):
                    handle.writelines(f"{p:.7g}\t{' '.join(w)}\t{b:.7g}\n" for p, w, b in rows)
                else:
                    handle.writelines(f"{p:.7g}\t{' '.join(w)}\n" for p, w, _ in rows)
        handle.write("\n\\end\\\n")


def read_arpa(path: Path) -> Arpa:
    """Reads a language model of any order.

    Raises:
        ValueError: The file is missing or no such model; names file, line and rule.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such language model")
    with path.open("rb") as handle:
        lines = _Lines(path, handle)
        counts = _read_counts(lines)
        words: dict[bytes, int] = {}
        orders: list[NgramOrder] = []
        for n, count in enumerate(counts, start=1):
            lines.require(f"\\{n}-grams:".encode())
            section = _read_section(lines, n, count, n == len(counts), words)
            orders.append(_sorted_order(lines, section, orders, len(words)))
            lines.read()
        lines.require(b"\\end\\")
    return Arpa([word.decode() for word in words], orders)


class _Lines:
    """The lines of a file that are not empty, as fields, with their numbers."""

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        self._path = path
        self._handle = handle
        self.number = 0
        self.fields: list[bytes] = []

    def read(self) -> list[bytes]:
        for line in self._handle:
            self.number += 1
            if fields := line.split():
                self.fields = fields
                return fields
        raise ValueError(
            f"{self._path}:{self.number}: must go on to \\end\\; the file ends here, so it is "
            "no ARPA language model or was cut off"
        )

    def require(self, field: bytes) -> None:
        if self.fields != [field]:
            raise self.refusal(f"must be {field.decode()}")

    def refusal(self, rule: str, number: int | None = None) -> ValueError:
        if number is not None:
            return ValueError(f"{self._path}:{number}: {rule}")
        got = b" ".join(self.fields).decode(errors="replace")[:80]
        return ValueError(f"{self._path}:{self.number}: {rule}; got {got}")


def _read_counts(lines: _Lines) -> list[int]:
    # What stands before it is a comment.
    while lines.read() != [b"\\data\\"]:
        pass
    counts: list[int] = []
    while lines.read()[0] == b"ngram":
        number, _, count = b"".join(lines.fields[1:]).partition(b"=")
        if number != str(len(counts) + 1).encode() or not count.isdigit():
            raise lines.refusal(f"must be ngram {len(counts) + 1}=COUNT")
        counts.append(int(count))
    if not counts:
        raise lines.refusal("must be ngram 1=COUNT")
    return counts


@dataclass(frozen=True)
class _Section:
    """The n-grams of one order, as they stand in the file."""

    ids: NDArray[np.int64]  # [M, n]
    log_probabilities: NDArray[np.float64]
    backoffs: NDArray[np.float64]
    lines: NDArray[np.int64]


def _read_section(
    lines: _Lines, n: int, count: int, highest: bool, words: dict[bytes, int]
) -> _Section:
    ids, numbers = array("q"), array("q")
    log_probabilities, backoffs = array("d"), array("d")
    for row in range(count):
        fields = lines.read()
        if fields[0].startswith(b"\\"):
            raise lines.refusal(f"must have {count} {n}-grams, as \\data\\ says, not {row}")
        if len(fields) != n + 1 and (highest or len(fields) != n + 2):
            rest = "" if highest else " and perhaps a backoff"
            raise lines.refusal(f"must be a log10 probability, {n} words{rest}")
        log_probabilities.append(_number(lines, fields[0]))
        if log_probabilities[-1] > 0:
            raise lines.refusal("a log10 probability must not be above 0")
        backoffs.append(_number(lines, fields[-1]) if len(fields) == n + 2 else 0.0)
        if n == 1:
            _add_word(lines, fields[1], words)
        try:
            ids.extend([words[word] for word in fields[1 : n + 1]])
        except KeyError as error:
            word = error.args[0].decode(errors="replace")
            raise lines.refusal(f"each word must be a 1-gram; {word} is not") from None
        numbers.append(lines.number)
    return _Section(
        np.array(ids, np.int64).reshape(count, n),
        np.array(log_probabilities, np.float64),
        np.array(backoffs, np.float64),
        np.array(numbers, np.int64),
    )


def _number(lines: _Lines, text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise lines.refusal(f"must have finite numbers; {text.decode(errors='replace')} is not")
    return value


def _add_word(lines: _Lines, word: bytes, words: dict[bytes, int]) -> None:
    try:
        word.decode()
    except UnicodeDecodeError:
        raise lines.refusal("a word must be UTF-8") from None
    if word in words:
        raise lines.refusal("an n-gram must stand in the file once")
    words[word] = len(words)


def _sorted_order(
    lines: _Lines, section: _Section, below: Sequence[NgramOrder], num_words: int
) -> NgramOrder:
    contexts = np.zeros(len(section.ids), np.int64)
    for level, words in zip(below, section.ids.T, strict=False):
        keys = level.contexts * num_words + level.words
        wanted = contexts * num_words + words
        contexts = np.searchsorted(keys, wanted)
        known = contexts < len(keys)
        known[known] = keys[contexts[known]] == wanted[known]
        if not known.all():
            rule = "an n-gram's words but the last must be an n-gram of the order below"
            raise lines.refusal(rule, int(section.lines[~known][0]))
    keys = contexts * num_words + section.ids[:, -1]
    order = np.argsort(keys, kind="stable")
    repeated = order[1:][np.diff(keys[order]) == 0]
    if len(repeated):
        raise lines.refusal(
            "an n-gram must stand in the file once", int(section.lines[repeated[0]])
        )
    return NgramOrder(
        contexts[order],
        section.ids[order, -1],
        section.log_probabilities[order],
        section.backoffs[order],
    )
