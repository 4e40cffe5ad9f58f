"""The report page of a folder of prepared data."""

from pathlib import Path

from tfasr.artifacts.files import read_json, write_text
from tfasr.artifacts.html import Html, element, join, page
from tfasr.audio.utterance import SPLITS
from tfasr.data.prepared import PreparedData
from tfasr.preparation.report_counts import count_folder
from tfasr.preparation.report_sections import (
    Facts,
    domains_section,
    durations_section,
    left_out,
    settings_section,
    several,
    skipped_section,
    speakers_section,
    splits_section,
)
from tfasr.preparation.report_text import (
    alignment_section,
    characters_section,
    rates_section,
    words_section,
)

_SECTIONS = (
    splits_section,
    durations_section,
    rates_section,
    alignment_section,
    words_section,
    characters_section,
    domains_section,
    speakers_section,
    skipped_section,
    settings_section,
)


def write_report(folder: Path, source: str) -> Path:
    """Writes `report.html` into a folder of prepared data: one page that loads nothing.

    Args:
        folder: What `tfasr prepare` wrote.
        source: What the page calls the corpus.

    Returns:
        The page, written whole or not at all.

    Raises:
        ValueError: The folder is no prepared data, or a file of it is missing or broken.
    """
    data = PreparedData(folder)
    settings = read_json(folder / "settings.json")
    counts = count_folder(folder, data.fbank, settings["shards"]["withheld_domains"])
    facts = Facts(data, settings, counts)
    body = [_opening(facts, source), *(section(facts) for section in _SECTIONS)]
    path = folder / "report.html"
    write_text(path, page(f"Prepared data: {source}", *body))
    return path


def _opening(facts: Facts, source: str) -> Html:
    utterances = sum(len(split.seconds) for split in facts.splits)
    total = facts.unit(sum(sum(split.seconds) for split in facts.splits))
    rate = facts.data.index["sample_rate"]
    line = f"{several(utterances, 'utterance')}, {total} {facts.unit.name}, {rate:,} Hz"
    found = element("ul", *(element("li", one) for one in _findings(facts)), class_="findings")
    calm = element("p", "Nothing stands out.")
    return join(
        element("p", "Prepared data", class_="soft"),
        element("h1", source),
        element("p", line),
        found if _findings(facts) else calm,
    )


def _findings(facts: Facts) -> list[Html]:
    """What a reader should look at, each with a link to where it is told."""
    empty = [name for name in SPLITS if not facts.counts.splits[name].seconds]
    numbers = {
        "skipped": len(facts.skipped),
        "durations": sum(left_out(facts.counts.splits["train"])),
        "rates": sum(split.suspects for split in facts.splits),
        "alignment": sum(split.cramped for split in facts.splits),
        "characters": len(set().union(*(split.unknown_characters for split in facts.splits))),
        "speakers": len(facts.counts.shared_speakers()),
    }
    told = {
        "skipped": ("entry", "skipped"),
        "durations": ("utterance", "too short or too long for training's default limits"),
        "rates": ("utterance", "with suspiciously many or few tokens per second"),
        "alignment": ("utterance", "that CTC cannot align"),
        "characters": ("character", "that the tokenizer does not know"),
        "speakers": ("speaker", "both in training and held out"),
    }
    links = {"splits": f"No utterance in {' and '.join(empty)}"} if empty else {}
    for name, (noun, what) in told.items():
        if numbers[name]:
            links[name] = f"{several(numbers[name], noun)} {what}"
    return [element("a", text, href=f"#{name}") for name, text in links.items()]
