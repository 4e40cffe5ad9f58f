"""`ranking.json`: the contract between the study and those that act on it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfasr.artifacts.files import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class BlockScore:
    """What resetting one block did.

    Args:
        block: Its index.
        wer: Word error rate with the block reset, over all draws.
        penalty: Rise of the word error rate over the intact model's.
        interval: 95 % interval of the penalty, by paired bootstrap over utterances.
        reinitialised_wer: With the block's weights of step 0.
        rerandomised_wer: With fresh draws, one for each seed.
    """

    block: int
    wer: float
    penalty: float
    interval: tuple[float, float]
    reinitialised_wer: float
    rerandomised_wer: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The blocks of one model, the most ambient first.

    Args:
        blocks: Scores, by rising penalty.
        baseline_wer: Word error rate of the intact model.
        method: How blocks were scored, such as "rerandomise".
        seeds: Of the fresh draws.
        step: The checkpoint that was studied.
        model_hash: Of its weights.
        data_hash: Of the utterances that it was evaluated on.
        utterances: How many those are.
        words: Reference words in them.
        command: What made the ranking.
    """

    blocks: tuple[BlockScore, ...]
    baseline_wer: float
    method: str
    seeds: tuple[int, ...]
    step: int
    model_hash: str
    data_hash: str
    utterances: int
    words: int
    command: str

    def __post_init__(self) -> None:
        penalties = [score.penalty for score in self.blocks]
        if penalties != sorted(penalties):
            raise ValueError(f"blocks must stand by rising penalty; got {penalties}")
        if len({score.block for score in self.blocks}) < len(self.blocks):
            raise ValueError(f"each block must stand once; got {[s.block for s in self.blocks]}")

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

    def _take(self, scores: tuple[BlockScore, ...], count: int) -> tuple[int, ...]:
        if not 0 <= count <= len(scores):
            raise ValueError(f"a model of {len(scores)} blocks has no {count} of them to choose")
        return tuple(score.block for score in scores[:count])

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
            scores = [_score(row) for row in values.pop("blocks")]
            return cls(blocks=tuple(scores), **{**values, "seeds": tuple(values["seeds"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: must be a ranking made by `tfasr study`; {error}") from None


def _score(row: dict[str, Any]) -> BlockScore:
    draws = tuple(row["rerandomised_wer"])
    return BlockScore(**{**row, "interval": tuple(row["interval"]), "rerandomised_wer": draws})
