"""The sections of the report page of prepared data."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tfasr.artifacts.html import Html, element, histogram, join, table
from tfasr.audio.utterance import SPLITS
from tfasr.configs.data import BatchConfig
from tfasr.data.prepared import PreparedData
from tfasr.preparation.report_counts import Amount, FolderCounts, SplitCounts

# Speakers, words and characters that are listed; the rest is summed up.
LISTED = 20
# Names in running text.
_NAMES = 200
# Entries shown of each reason for skipping.
_EXAMPLES = 5
_UNKNOWN_NAME = "not said"
# Stands where there is no number.
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Unit:
    """The unit of time of a page.

    Args:
        name: What its numbers are called.
        seconds: In one of it.
    """

    name: str
    seconds: float

    def __call__(self, seconds: float) -> str:
        return f"{seconds / self.seconds:,.2f}"


@dataclass(frozen=True)
class Facts:
    """Everything that a page tells of.

    Args:
        data: The folder.
        settings: What it was prepared with.
        counts: What is in it.
    """

    data: PreparedData
    settings: dict[str, Any]
    counts: FolderCounts

    @property
    def splits(self) -> list[SplitCounts]:
        """In the order of `SPLITS`."""
        return [self.counts.splits[split] for split in SPLITS]

    @property
    def skipped(self) -> list[str]:
        """Why each entry was skipped, with its place."""
        return list(self.data.index["skipped"])

    @property
    def withheld(self) -> list[str]:
        """Domains that training leaves out."""
        return list(self.settings["shards"]["withheld_domains"])

    @cached_property
    def unit(self) -> Unit:
        """Hours, or minutes where there are few."""
        total = sum(sum(split.seconds) for split in self.splits)
        return Unit("hours", 3600) if total >= 3600 else Unit("minutes", 60)


def splits_section(facts: Facts) -> Html:
    """Amounts and lengths of each split."""
    names = [
        "utterances", facts.unit.name, "speakers", "domains", "words", "distinct words",
        "characters", "tokens", "tokens per second", "shortest, s", "median, s", "longest, s",
    ]  # fmt: skip
    groups = [[split] for split in facts.splits]
    columns = [_measures(group, facts) for group in [*groups, facts.splits]]
    rows = list(zip(names, *columns, strict=True))
    return join(heading("Splits", "splits"), table(["", *SPLITS, "all"], rows, "lrrrr"))


def _measures(group: Sequence[SplitCounts], facts: Facts) -> list[str]:
    seconds = np.concatenate([np.asarray(split.seconds) for split in group])
    tokens = sum(sum(split.num_tokens) for split in group)
    has_tokens = facts.counts.vocabulary > 0 and len(seconds) > 0
    lengths = [seconds.min(), np.median(seconds), seconds.max()] if len(seconds) else []
    speakers = set().union(*(split.speakers for split in group)) - {""}
    domains = set().union(*(split.domains for split in group)) - {""}
    return [
        f"{len(seconds):,}",
        facts.unit(float(seconds.sum())),
        *(f"{len(names):,}" if names else NOTHING for names in (speakers, domains)),
        f"{sum(split.words.total() for split in group):,}",
        f"{len(set().union(*(split.words for split in group))):,}",
        f"{sum(split.characters for split in group):,}",
        f"{tokens:,}" if has_tokens else NOTHING,
        f"{tokens / max(float(seconds.sum()), 1e-9):.2f}" if has_tokens else NOTHING,
        *(f"{length:.2f}" for length in lengths),
        *[NOTHING] * (3 - len(lengths)),
    ]


def durations_section(facts: Facts) -> Html:
    """How long the utterances are, and which of them training leaves out."""
    limits = BatchConfig()
    drawing = histogram(
        {name: counts.seconds for name, counts in facts.counts.splits.items()},
        label="seconds",
        limits=[limits.min_seconds, limits.max_seconds],
        limits_label="limits of training",
        title="Durations of the utterances, as shares of their split",
    )
    short, long = left_out(facts.counts.splits["train"])
    said = (
        f"With its default limits, training leaves out {several(short, 'utterance')} under "
        f"{limits.min_seconds:g} s and {long:,} over {limits.max_seconds:g} s "
        f"({share(short + long, len(facts.counts.splits['train'].seconds))} of the split train)."
    )
    return join(heading("Durations", "durations"), drawing, element("p", said))


def left_out(train: SplitCounts) -> tuple[int, int]:
    """Utterances under and over the default limits of training."""
    limits, seconds = BatchConfig(), np.asarray(train.seconds)
    return int((seconds < limits.min_seconds).sum()), int((seconds > limits.max_seconds).sum())


def domains_section(facts: Facts) -> Html:
    """How much there is of each domain."""
    amounts = [split.domains for split in facts.splits]
    return join(heading("Domains", "domains"), _amounts("domain", amounts, facts))


def speakers_section(facts: Facts) -> Html:
    """How much each speaker says, and who is on two sides."""
    shared = facts.counts.shared_speakers()
    said = element("p", "No speaker of the training split is held out too.")
    if shared:
        more = len(shared) - _NAMES
        names = ", ".join(shared[:_NAMES]) + (f" and {more:,} more" if more > 0 else "")
        said = element(
            "p",
            f"{several(len(shared), 'speaker')} both in training and held out, so that the error "
            f"rate says little of voices never heard: {names}",
        )
    amounts = [split.speakers for split in facts.splits]
    return join(heading("Speakers", "speakers"), said, _amounts("speaker", amounts, facts))


def _amounts(what: str, amounts: Sequence[dict[str, Amount]], facts: Facts) -> Html:
    """A table of the `LISTED` largest and the rest: utterances, and time by split."""
    total: dict[str, Amount] = defaultdict(Amount)
    for own in amounts:
        for name, amount in own.items():
            total[name].utterances += amount.utterances
            total[name].seconds += amount.seconds
    largest = sorted(total, key=lambda name: (-total[name].seconds, name))
    groups = [(name or _UNKNOWN_NAME, [name]) for name in largest[:LISTED]]
    rest = largest[LISTED:]
    if rest:
        groups.append((f"{len(rest):,} others", rest))
    everything = sum(amount.seconds for amount in total.values())
    rows = []
    for label, names in groups:
        seconds = sum(total[name].seconds for name in names)
        by_split = [sum(own[n].seconds for n in names if n in own) for own in amounts]
        rows.append(
            [
                label,
                f"{sum(total[name].utterances for name in names):,}",
                *(facts.unit(one) if one else NOTHING for one in by_split),
                facts.unit(seconds),
                share(seconds, everything),
            ]
        )
    header = [what, "utterances", *SPLITS, f"all, {facts.unit.name}", "share"]
    return table(header, rows, "lrrrrrr")


def skipped_section(facts: Facts) -> Html:
    """What was skipped, by reason."""
    title = heading("Skipped", "skipped")
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in facts.skipped:
        groups[_reason(entry)].append(entry)
    if not groups:
        return join(title, element("p", "Nothing was skipped."))
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = [[reason, f"{len(entries):,}"] for reason, entries in ordered]
    examples = []
    for reason, entries in ordered:
        shown = [element("li", entry) for entry in entries[:_EXAMPLES]]
        more = len(entries) - len(shown)
        shown += [element("li", f"and {more:,} more")] if more else []
        examples.append(element("details", element("summary", reason), element("ul", *shown)))
    return join(title, table(["reason", "entries"], rows, "lr"), *examples)


def _reason(entry: str) -> str:
    """The rule that an entry broke: what is the same for all that broke it."""
    parts = entry.split(": ")
    while len(parts) > 1 and _is_place(parts[0]):
        parts.pop(0)
    return ": ".join(parts).split("; ")[0]


def _is_place(part: str) -> bool:
    return "must " not in part and re.search(r"/|:\d+$|\.\w{1,8}$", part) is not None


def settings_section(facts: Facts) -> Html:
    """What the data was prepared with, and the files that it takes."""
    fbank, settings = facts.data.fbank, facts.settings
    shards = facts.data.index["splits"]
    files = [path for name in SPLITS if shards[name]["shards"] for path in facts.data.shards(name)]
    size = sum(path.stat().st_size for path in files)
    pieces = f"{settings['tokenizer']['kind']}, {facts.counts.vocabulary:,} pieces"
    rows = [
        ["corpus", str(settings["corpus"])],
        ["sample rate", f"{facts.data.index['sample_rate']:,} Hz"],
        [
            "filterbank",
            f"{fbank.num_mels} mel bins, {fbank.frame_length_ms:g} ms every "
            f"{fbank.frame_shift_ms:g} ms",
        ],
        ["tokenizer", pieces if facts.counts.vocabulary else "none"],
        ["withheld domains", ", ".join(facts.withheld) or "none"],
        ["shards", f"{several(len(files), 'file')}, {size / 1e6:,.1f} MB"],
        ["compression", str(settings["shards"].get("compression", "none"))],
    ]
    whole = element("pre", json.dumps(settings, indent=2, ensure_ascii=False))
    details = element("details", element("summary", "All settings"), whole)
    return join(heading("Settings", "settings"), table(["setting", "value"], rows, "ll"), details)


def heading(text: str, name: str) -> Html:
    """A section's heading, with the name that links use."""
    return element("h2", text, id=name)


def several(number: int, noun: str) -> str:
    """A number and its noun, such as "2 entries"."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def share(part: float, whole: float) -> str:
    """A part in per cent; one that rounds to nothing is told from none at all."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"
