"""Every form for every number of frozen blocks: what it saves, and what it costs."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from tfasr.configs.export import Form
from tfasr.export.artefact import Artefact
from tfasr.export.freeze import Freezing
from tfasr.export.measuring import Measured, Spoken, measure
from tfasr.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to freeze, and what came of it.

    Args:
        freezing: The way.
        measured: Its figures; None where it can't be done.
        refused: Why it can't be done.
    """

    freezing: Freezing
    measured: Measured | None = None
    refused: str = ""

    @property
    def name(self) -> str:
        """Such as "2 as seed"."""
        blocks = len(self.freezing.blocks)
        return f"{blocks} as {self.freezing.form}" if blocks else "nothing frozen"

    def to_json(self) -> dict[str, Any]:
        """Returns a row of `sweep.json`."""
        row: dict[str, Any] = {"freezing": asdict(self.freezing)}
        return row | (self.measured.to_json() if self.measured else {"refused": self.refused})


def ways(ranked: Sequence[int], counts: Sequence[int], run_seed: int) -> Iterator[Freezing]:
    """Yields nothing frozen, and then each form of the most ambient blocks.

    Args:
        ranked: Blocks, the most ambient first.
        counts: Numbers of blocks to try; empty means all.
        run_seed: Of the run.

    Raises:
        ValueError: There are fewer blocks.
    """
    counts = counts or range(1, len(ranked) + 1)
    if max(counts) > len(ranked):
        raise ValueError(f"the ranking has {len(ranked)} blocks; got counts={max(counts)}")
    yield Freezing(run_seed=run_seed)
    for count in sorted({count for count in counts if count}):
        for form in get_args(Form):
            yield Freezing(blocks=tuple(ranked[:count]), form=form, run_seed=run_seed)


def sweep(
    source: Run,
    make: Callable[[Freezing], Artefact],
    freezings: Sequence[Freezing],
    utterances: Sequence[Spoken],
    report: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Exports each way into a folder that does not stay, and measures it.

    Args:
        source: The run.
        make: From a way to freeze to what is exported.
        freezings: The ways, the first of them with nothing frozen.
        utterances: What error rates and speed are measured on.
        report: Called with each trial.
    """
    trials = []
    for freezing in freezings:
        trial = _tried(source, make, freezing, utterances)
        trials.append(trial)
        report(trial)
    return trials


def _tried(
    source: Run,
    make: Callable[[Freezing], Artefact],
    freezing: Freezing,
    utterances: Sequence[Spoken],
) -> Trial:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "trial" / "1"
        try:
            artefact = make(freezing)
        except ValueError as error:
            return Trial(freezing=freezing, refused=str(error))
        artefact.about["frozen"] |= {"ranking": "", "ranking_sha256": ""}
        artefact.write(folder, ["tfasr", "export", "--sweep"], source)
        return Trial(freezing=freezing, measured=measure(folder, utterances))


def smallest(trials: Sequence[Trial], max_loss: float) -> Trial:
    """Chooses the fewest bytes within a loss; of equal ones the lowest error rate.

    Args:
        trials: The first has nothing frozen.
        max_loss: By how much the word error rate may pass the first one's, as a share of words.
    """
    first = trials[0].measured
    limit = float("inf") if first is None else first.evaluation.wer + max_loss

    def order(trial: Trial) -> tuple[float, float]:
        if trial.measured is None or trial.measured.evaluation.wer > limit:
            return float("inf"), float("inf")
        return trial.measured.bytes, trial.measured.evaluation.wer

    return min(trials, key=order)
