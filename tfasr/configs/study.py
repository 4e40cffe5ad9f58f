"""The layer study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

What = Literal["blocks", "modules", "cumulative", "pairs"]
Method = Literal[
    "rerandomise",
    "reinitialise",
    "churn",
    "relative_churn",
    "gradient",
    "fisher",
    "cosine",
    "loss",
]
# Methods that evaluate no reset.
SIGNALS = ("churn", "relative_churn", "gradient", "fisher", "cosine", "loss")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Resets parts of a trained model, evaluates, and ranks them.

    Goes on where it was interrupted; what other settings found stays beside it.

    Args:
        run: A trained run.
        data: A folder made by `tfasr prepare`.
        out: Where the ranking and the report go; none means RUN/study.
        split: Which utterances.
        domains: Domains to evaluate on; empty means all that the data does not withhold.
        what: What is reset: "blocks" one at a time, "modules" of each block one at a time,
            "cumulative" the n most ambient blocks together for every n, "pairs" of blocks.
            Blocks always are.
        method: What ranks the blocks. "rerandomise": resets to fresh weights; "reinitialise":
            to those of step 0. The others evaluate no reset: signals that go with the penalty
            more or less ("churn", "relative_churn", "gradient", "fisher",
            "cosine", "loss"); they give an order, but no penalty to hold against a margin.
        draws: Fresh draws of each part's weights, beside its weights of step 0; none are made
            where those alone rank.
        statistics: Of batch normalisation: "kept" leaves the recorded ones, "reestimated" makes
            them anew after each reset, from the utterances that are evaluated.
        step: The run's checkpoint; 0 means the run's model.
        over_training: Whether each kept checkpoint is studied too, by one draw; `train
            --keep_every` keeps them.
        signals: Whether all signals are computed beside the resets and compared with them.
        beside: Studied runs, or folders of studies, that the report compares with this one: of
            other seeds, sizes, norms or evaluation sets.
        margin: A block is called ambient when the 95 % interval of its penalty ends under
            this share of words.
        jobs: Processes that evaluate side by side.
    """

    run: Path
    data: Path
    out: Path | None = None
    split: Literal["train", "valid", "test"] = "valid"
    domains: tuple[str, ...] = ()
    what: tuple[What, ...] = ("blocks",)
    method: Method = "rerandomise"
    draws: int = 3
    statistics: Literal["kept", "reestimated"] = "kept"
    step: int = 0
    over_training: bool = False
    signals: bool = False
    beside: tuple[Path, ...] = ()
    margin: float = 0.02
    jobs: int = 1

    def __post_init__(self) -> None:
        for name in ("draws", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        if not 0 < self.margin < 1:
            raise ValueError(f"margin must be in (0, 1); got margin={self.margin}")
        if self.step < 0:
            raise ValueError(f"step must be at least 0; got step={self.step}")
        if self.ranks_by_signal and (
            set(self.what) - {"blocks"} or self.over_training or self.beside
        ):
            raise ValueError(
                "a method that resets nothing ranks blocks alone, of one checkpoint and run; got "
                f"method={self.method}, what={','.join(self.what)}, "
                f"over_training={self.over_training}, beside={','.join(map(str, self.beside))}"
            )

    @property
    def folder(self) -> Path:
        """Where the ranking and the report go."""
        return self.out or self.run / "study"

    @property
    def ranks_by_signal(self) -> bool:
        """Whether the method evaluates no reset."""
        return self.method in SIGNALS

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the fresh draws that are made."""
        return tuple(range(1, self.draws + 1)) if self.method == "rerandomise" else ()
