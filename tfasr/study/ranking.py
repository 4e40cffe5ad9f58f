"""`ranking.json`: the contract between the study and those that act on it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tfasr.artifacts.files import read_json, write_json

Verdict = Literal["ambient", "critical", "undecided"]

# Error rate from which a model has nothing left that a reset could harm.
_DEAF = 0.9


@dataclass(frozen=True, kw_only=True)
class Score:
    """What the reset of a part of a model did, or what a cheaper signal says of it.

    Args:
        blocks: Indices of the blocks that were reset together.
        module: Of the one block, the module that was reset; "" for whole blocks.
        penalty: Rise of the word error rate over the intact model's, by the method's draws; a
            signal's value where the method is one, of use for nothing but its order.
        interval: 95 % interval of the penalty, by paired bootstrap over utterances; None where
            the method is a signal.
        reinitialised_wer: With the weights of step 0; None where that was not tried.
        rerandomised_wer: With fresh draws, one for each seed.
    """

    blocks: tuple[int, ...]
    module: str = ""
    penalty: float
    interval: tuple[float, float] | None = None
    reinitialised_wer: float | None = None
    rerandomised_wer: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """What was reset, such as "3", "3 attention" or "3 + 5"."""
        return " ".join(filter(None, [" + ".join(map(str, self.blocks)), self.module]))

    def verdict(self, margin: float) -> Verdict:
        """Calls it ambient only where the whole interval lies under a margin.

        Raises:
            ValueError: It has no interval.
        """
        if self.interval is None:
            raise ValueError(
                f"a margin needs the penalties of resets; block {self.name} has a signal only"
            )
        if self.interval[1] < margin:
            return "ambient"
        return "critical" if self.interval[0] >= margin else "undecided"


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The parts of one model, each kind with the most ambient first.

    Args:
        blocks: Each block alone, by rising penalty.
        modules: Each module of each block alone, by rising penalty; empty where not studied,
            as are the next two.
        cumulative: The n most ambient blocks together, n rising from 1.
        pairs: Two blocks together, by rising penalty.
        baseline_wer: Word error rate of the intact model.
        method: How parts were scored, such as "rerandomise".
        statistics: Whether those of batch normalisation were "kept" or "reestimated".
        seeds: Of the fresh draws.
        seconds: What resetting each block in turn took, of one process; 0 where a signal ranks.
        step: The checkpoint that was studied.
        model_hash: Of its weights.
        data_hash: Of the utterances that it was evaluated on.
        utterances: How many those are.
        words: Reference words in them.
        command: What made the ranking.
    """

    blocks: tuple[Score, ...]
    modules: tuple[Score, ...] = ()
    cumulative: tuple[Score, ...] = ()
    pairs: tuple[Score, ...] = ()
    baseline_wer: float
    method: str
    statistics: str = "kept"
    seeds: tuple[int, ...]
    seconds: float = 0.0
    step: int
    model_hash: str
    data_hash: str
    utterances: int
    words: int
    command: str

    def __post_init__(self) -> None:
        for kind in ("blocks", "modules", "pairs"):
            penalties = [score.penalty for score in getattr(self, kind)]
            if penalties != sorted(penalties):
                raise ValueError(f"{kind} must stand by rising penalty; got {penalties}")
        order = [score.blocks for score in self.blocks]
        if len(set(order)) < len(order) or any(len(blocks) != 1 for blocks in order):
            raise ValueError(f"each block must stand once, alone; got {order}")

    def most_ambient(self, count: int) -> tuple[int, ...]:
        """Indices of the `count` blocks with the smallest penalty, the smallest first.

        Raises:
            ValueError: There are fewer blocks.
        """
        return self._take(self.blocks, count)

    def most_critical(self, count: int) -> tuple[int, ...]:
        """Indices of the `count` blocks with the largest penalty, the largest first.

        Raises:
            ValueError: There are fewer blocks.
        """
        return self._take(self.blocks[::-1], count)

    def _take(self, scores: tuple[Score, ...], count: int) -> tuple[int, ...]:
        if not 0 <= count <= len(scores):
            raise ValueError(f"a model of {len(scores)} blocks has no {count} of them to choose")
        return tuple(score.blocks[0] for score in scores[:count])

    @property
    def is_deaf(self) -> bool:
        """Whether the intact model errs so often that resets can't tell which blocks matter."""
        return self.baseline_wer >= _DEAF

    def ambient(self, margin: float) -> tuple[int, ...]:
        """Indices of the blocks whose interval lies under a margin, the most ambient first.

        Raises:
            ValueError: The method was a signal, and no block has an interval.
        """
        found = [score for score in self.blocks if score.verdict(margin) == "ambient"]
        return tuple(score.blocks[0] for score in found)

    def ambient_together(self, margin: float) -> int:
        """How many of the most ambient blocks are ambient when all of them are reset at once.

        That is up to the first of the cumulative sets that is not.
        """
        verdicts = [score.verdict(margin) for score in self.cumulative]
        return next(
            (n for n, verdict in enumerate(verdicts) if verdict != "ambient"), len(verdicts)
        )

    def penalties(self) -> dict[int, float]:
        """Penalty of each block, by its index, the lowest block first."""
        scores = sorted(self.blocks, key=lambda score: score.blocks)
        return {score.blocks[0]: score.penalty for score in scores}

    def require_model(self, model_hash: str, where: Path) -> None:
        """Refuses to be used with another model than the one that was studied.

        Args:
            model_hash: Of the model at hand.
            where: The ranking's file, for the message.

        Raises:
            ValueError: The models differ.
        """
        if model_hash != self.model_hash:
            raise ValueError(
                f"{where}: ranks another model, with hash {self.model_hash[:12]}; got "
                f"{model_hash[:12]}. Run `tfasr study` on this one"
            )

    def write(self, path: Path) -> None:
        """Writes `ranking.json`."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Ranking":
        """Reads `ranking.json`.

        Raises:
            ValueError: The file is missing or no ranking; the message names it.
        """
        values = read_json(path)
        try:
            kinds = ("blocks", "modules", "cumulative", "pairs")
            scores = {kind: tuple(_score(row) for row in values[kind]) for kind in kinds}
            return cls(**{**values, **scores, "seeds": tuple(values["seeds"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: must be a ranking made by `tfasr study`; {error}") from None


def _score(row: Mapping[str, Any]) -> Score:
    lists = ("blocks", "rerandomised_wer", "interval")
    return Score(**{**row, **{name: tuple(row[name]) for name in lists if row[name] is not None}})
