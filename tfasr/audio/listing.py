"""What listing a corpus from text files takes: their lines, and ids that can be used."""

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfasr.audio.utterance import CorpusError, Utterance


def text_lines(path: Path) -> Iterator[tuple[int, str | CorpusError]]:
    """Yields what is on each line of a UTF-8 text file, without the blank ones.

    Args:
        path: The file.

    Yields:
        The number of the line from 1, and the line without white space around it or what is
        wrong with it.
    """
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    # Bytes are split, not text: U+2028 and the like, which JSON may hold, end no line.
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield number, CorpusError(f"{path}:{number}: must be UTF-8; {error.reason}")
            continue
        if text:
            yield number, text


def with_usable_ids(entries: Iterable[Utterance]) -> tuple[list[Utterance], list[CorpusError]]:
    """Parts the entries whose id may be used from those whose id is malformed or taken."""
    usable: dict[str, Utterance] = {}
    errors = []
    for entry in entries:
        taken = usable.get(entry.utterance_id)
        if not re.fullmatch(r"[A-Za-z0-9._-]+", entry.utterance_id):
            errors.append(
                CorpusError(
                    f'{entry.origin}: an id must be letters, digits, "-", "_" and "."; '
                    f"got {entry.utterance_id!r}"
                )
            )
        elif taken:
            errors.append(
                CorpusError(
                    f"{entry.origin}: an id must be given once; {entry.utterance_id} is also "
                    f"at {taken.origin}"
                )
            )
        else:
            usable[entry.utterance_id] = entry
    return list(usable.values()), errors
