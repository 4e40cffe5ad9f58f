"""The sections of the report page that are about texts and their tokens."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tfasr.artifacts.html import Html, element, histogram, join, table
from tfasr.audio.utterance import SPLITS, Split
from tfasr.preparation.report_counts import (
    FASTEST,
    SHOWN,
    SLOWEST,
    SUBSAMPLING,
    Encoded,
    worst_cramped,
    worst_suspects,
)
from tfasr.preparation.report_sections import LISTED, Facts, heading, share

# Transcripts beyond so many characters are cut short.
_TEXT = 120
_HELD_OUT: tuple[Split, ...] = ("valid", "test")


def rates_section(facts: Facts) -> Html:
    """Tokens per second, and the utterances whose text and audio may not match."""
    title = heading("Tokens per second", "rates")
    if not facts.counts.vocabulary:
        return join(title, _no_tokenizer())
    drawing = histogram(
        {
            name: np.asarray(counts.num_tokens) / np.maximum(np.asarray(counts.seconds), 1e-9)
            for name, counts in facts.counts.splits.items()
        },
        label="tokens per second",
        limits=[SLOWEST, FASTEST],
        limits_label="suspicious beyond",
        title="Tokens per second of the utterances, as shares of their split",
    )
    said = (
        f"Under {SLOWEST:g} or over {FASTEST:g} tokens per second, transcript and audio may not "
        f"belong together: {_by_split([split.suspects for split in facts.splits])}."
    )
    worst = worst_suspects([one for split in facts.splits for one in split.worst_suspects])
    rows = [_row(one, f"{one.num_tokens:,}", f"{one.rate:,.2f}") for one in worst]
    return join(title, drawing, element("p", said), _worst(["tokens", "per second"], rows))


def alignment_section(facts: Facts) -> Html:
    """Utterances with fewer encoder frames than CTC needs."""
    title = heading("CTC alignment", "alignment")
    if not facts.counts.vocabulary:
        return join(title, _no_tokenizer())
    said = (
        "CTC needs a frame for each token and one more between equal neighbours; the encoder "
        f"keeps one of {SUBSAMPLING} frames. Utterances with too few: "
        f"{_by_split([split.cramped for split in facts.splits])}."
    )
    worst = worst_cramped([one for split in facts.splits for one in split.worst_cramped])
    rows = [_row(one, f"{one.encoder_frames:,}", f"{one.required_frames:,}") for one in worst]
    return join(title, element("p", said), _worst(["frames", "needed"], rows))


def _row(one: Encoded, *measures: str) -> list[str]:
    text = one.row.text
    shown = text[:_TEXT] + "…" * (len(text) > _TEXT)
    return [one.row.utterance_id, one.row.split, f"{one.row.seconds:.2f}", *measures, shown]


def _worst(measures: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    if not rows:
        return join()
    first = f"The {SHOWN} most extreme:" if len(rows) == SHOWN else "They are:"
    header = ["id", "split", "seconds", *measures, "text"]
    return join(element("p", first), table(header, rows, "llrrrt"))


def words_section(facts: Facts) -> Html:
    """Held-out words that the training text lacks."""
    title = heading("Words that training never has", "words")
    learned = facts.counts.learned
    if not learned:
        return join(title, element("p", "There is no training text to compare with."))
    held_out = {name: facts.counts.splits[name] for name in _HELD_OUT}
    unseen = {name: counts.unseen(learned) for name, counts in held_out.items()}
    rows = [
        [
            name,
            f"{counts.words.total():,}",
            f"{unseen[name].total():,}",
            share(unseen[name].total(), counts.words.total()),
            f"{len(counts.words):,}",
            f"{len(unseen[name]):,}",
            share(len(unseen[name]), len(counts.words)),
        ]
        for name, counts in held_out.items()
    ]
    header = ["split", "words", "unseen", "share", "distinct", "distinct unseen", "share"]
    together = sum(unseen.values(), Counter[str]())
    listed = sorted(together.items(), key=lambda item: (-item[1], item[0]))[:LISTED]
    frequent = [[word, *(f"{unseen[name][word]:,}" for name in held_out)] for word, _ in listed]
    note = f"{len(learned):,} distinct words are learned from."
    if facts.withheld:
        note += f" The text of withheld domains ({', '.join(facts.withheld)}) is not among it."
    most = join(element("h3", "The most frequent"), table(["word", *held_out], frequent, "lrr"))
    return join(title, element("p", note), table(header, rows, "lrrrrrr"), most if frequent else "")


def characters_section(facts: Facts) -> Html:
    """Unknown tokens, and the characters behind them."""
    title = heading("Characters that the tokenizer does not know", "characters")
    if not facts.counts.vocabulary:
        return join(title, _no_tokenizer())
    rows = [
        [
            name,
            f"{sum(counts.num_tokens):,}",
            f"{counts.unknown_tokens:,}",
            share(counts.unknown_tokens, sum(counts.num_tokens)),
        ]
        for name, counts in facts.counts.splits.items()
    ]
    tokens = table(["split", "tokens", "unknown", "share"], rows, "lrrr")
    together = sum((split.unknown_characters for split in facts.splits), Counter[str]())
    listed = sorted(together.items(), key=lambda item: (-item[1], item[0]))
    named = [
        [
            join(character, " ", element("code", f"U+{ord(character):04X}")),
            unicodedata.name(character, "no name").lower(),
            *(f"{split.unknown_characters[character]:,}" for split in facts.splits),
        ]
        for character, _ in listed[:LISTED]
    ]
    most = table(["character", "name", *SPLITS], named, "llrrr") if named else join()
    more = len(listed) - len(named)
    rest = element("p", f"And {more:,} other characters.") if more else join()
    return join(title, tokens, most, rest)


def _no_tokenizer() -> Html:
    return element("p", "There is no tokenizer: there was no training text to make one of.")


def _by_split(numbers: Sequence[int]) -> str:
    return ", ".join(f"{n:,} in {name}" for n, name in zip(numbers, SPLITS, strict=True))
