"""`tfasr prepare`: a corpus to prepared data."""

import time
from typing import Any

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import read_json
from tfasr.audio.utterance import SPLITS
from tfasr.configs.prepare import COMPOSED, INDEX, PrepareConfig
from tfasr.preparation.preparation import Preparation

# Reasons that are listed; data.json has them all.
_LISTED = 20


def run(config: PrepareConfig) -> None:
    """Prepares a corpus, or goes on where it was interrupted."""
    preparation = Preparation(config)
    if preparation.is_done:
        print(f"{config.out}: already prepared")
    else:
        preparation.run(RatedLine(ProgressLine("prepare")))
    _tell(config, read_json(config.out / INDEX))
    if config.report:
        # Here, not above: few ask for it, and it draws with Matplotlib.
        from tfasr.preparation.report import write_report

        print(f"report: {write_report(config.out, str(config.source or config.corpus))}")


def _tell(config: PrepareConfig, index: dict[str, Any]) -> None:
    skipped = index["skipped"]
    for reason in skipped[:_LISTED]:
        print(f"skipped {reason}")
    for split in SPLITS:
        counts = index["splits"][split]
        unknown = f", {counts['unknown_tokens']} unknown tokens" if counts["unknown_tokens"] else ""
        minutes = counts["seconds"] / 60
        print(f"{split}: {counts['utterances']} utterances, {minutes:.1f} min{unknown}")
    if skipped:
        where = "listed above and" if len(skipped) <= _LISTED else f"{_LISTED} of them above, all"
        entries = "1 entry" if len(skipped) == 1 else f"{len(skipped)} entries"
        print(f"skipped: {entries}, {where} in data.json")
    if index["shared_speakers"] and config.corpus not in COMPOSED:
        print(
            f"{index['shared_speakers']} speakers are both in training and held out, as the corpus "
            "divides them; --splits.by speaker divides it anew"
        )
    held_out = index["splits"]["valid"]["utterances"] + index["splits"]["test"]["utterances"]
    if index["splits"]["train"]["utterances"] and not held_out:
        print(
            f"{config.out}: has nothing to validate on, which training needs; "
            "see --splits.by and --splits.valid_share"
        )
    if not index["splits"]["train"]["utterances"]:
        print(f"{config.out}: has no training split, so it can only be evaluated on")


class RatedLine:
    """Shows progress with the utterances prepared a second.

    Args:
        line: Where it is shown.
    """

    def __init__(self, line: ProgressLine) -> None:
        self.line = line
        self.first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        # The pace is that of this process: what it found done already took it no time.
        first_done, first_seen = self.first = self.first or (done, now)
        figures = {}
        if done > first_done:
            figures["utterances_per_second"] = (done - first_done) / max(now - first_seen, 1e-9)
        self.line(done, total, **figures)
