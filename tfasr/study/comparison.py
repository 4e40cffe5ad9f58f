"""Rankings beside one another: over seeds, checkpoints and data, and beside cheaper signals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from tfasr.models.churn import Churn
from tfasr.study.ranking import Ranking
from tfasr.study.signals import Signal
from tfasr.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Studied:
    """One run's ranking, and what it has in common with others.

    Args:
        family: What all seeds share, such as "16 blocks, 48 wide, group norm".
        seed: Of the run.
        ranking: By resets.
    """

    family: str
    seed: int
    ranking: Ranking

    @classmethod
    def of_run(cls, run: Run, ranking: Ranking) -> "Studied":
        """Names the family of a run's ranking by its depth, width and norm."""
        model = run.model_config
        norm = model.encoder.conv_norm.replace("_", " ")
        family = f"{model.num_blocks} blocks, {model.dim} wide, {norm} norm"
        if ranking.statistics == "reestimated":
            family += ", statistics made anew"
        return cls(family=family, seed=run.config.seed, ranking=ranking)

    @classmethod
    def read(cls, folder: Path) -> "Studied":
        """Reads a study that was made before, of a run or in a folder of its own within one.

        Raises:
            ValueError: There is no ranking, or it is not in a run.
        """
        study = study_folder(folder)
        home = Run(folder if (folder / "config.yaml").is_file() else study.parent)
        return cls.of_run(home, Ranking.read(study / "ranking.json"))


def study_folder(folder: Path) -> Path:
    """Where the study of a run lies, or the folder itself where it is one's own."""
    return folder / "study" if (folder / "study" / "ranking.json").is_file() else folder


@dataclass(frozen=True, kw_only=True)
class Family:
    """Runs that differ in nothing but their seed.

    Args:
        name: What they share.
        runs: Some, by rising seed, each seed once, all of the same blocks.

    Raises:
        ValueError: A seed stands twice, the blocks differ, or a block was never re-randomised.
    """

    name: str
    runs: tuple[Studied, ...]

    def __post_init__(self) -> None:
        seeds = [run.seed for run in self.runs]
        if not seeds or seeds != sorted(set(seeds)):
            raise ValueError(
                f"{self.name}: runs must be some, each seed once, rising; got seeds={seeds}"
            )
        for run in self.runs:
            _same_blocks(self.runs[0].ranking, run.ranking, self.name)
            bare = [score.name for score in run.ranking.blocks if not score.rerandomised_wer]
            if bare:
                raise ValueError(
                    f"{self.name}: seed {run.seed} must have every block re-randomised; "
                    f"got none of block {bare[0]}"
                )

    @property
    def blocks(self) -> tuple[int, ...]:
        """Indices of the L blocks, rising."""
        return tuple(self.runs[0].ranking.penalties())

    @property
    def error_rates(self) -> NDArray[np.float64]:
        """[S, L], of each run with each block re-randomised, the mean over its draws."""
        return np.array([_error_rates(run.ranking) for run in self.runs])

    @property
    def mean(self) -> NDArray[np.float64]:
        """[L], of the error rates over seeds."""
        return np.asarray(self.error_rates.mean(axis=0))

    @property
    def lowest(self) -> NDArray[np.float64]:
        """[L], of the error rates over seeds."""
        return np.asarray(self.error_rates.min(axis=0))

    @property
    def highest(self) -> NDArray[np.float64]:
        """[L], of the error rates over seeds."""
        return np.asarray(self.error_rates.max(axis=0))

    @property
    def intact(self) -> NDArray[np.float64]:
        """[S], error rates with nothing reset."""
        return np.array([run.ranking.baseline_wer for run in self.runs])

    def ambient(self, margin: float) -> dict[int, int]:
        """How many blocks are ambient at a margin, by seed."""
        return {run.seed: len(run.ranking.ambient(margin)) for run in self.runs}

    def stability(self) -> float | None:
        """Mean of Kendall's tau over all pairs of seeds, as `stability` has it."""
        return stability([run.ranking for run in self.runs])


def families(studied: Sequence[Studied]) -> tuple[Family, ...]:
    """Groups runs by their family and what they were evaluated on, in order of appearance.

    Where a family was evaluated on several sets of utterances, its names tell these apart.

    Raises:
        ValueError: A family has a seed twice, runs of other blocks, or a ranking by a signal.
    """
    groups: dict[tuple[str, str], list[Studied]] = {}
    for run in studied:
        groups.setdefault((run.family, run.ranking.data_hash), []).append(run)
    names = [name for name, _ in groups]
    return tuple(
        Family(
            name=f"{name}, set {data[:8]}" if names.count(name) > 1 else name,
            runs=tuple(sorted(runs, key=lambda run: run.seed)),
        )
        for (name, data), runs in groups.items()
    )


def of_two_sets(studied: Sequence[Studied]) -> list[tuple[Studied, Studied]]:
    """Pairs of the same model, evaluated on different utterances."""
    return [
        (first, second)
        for first, second in combinations(studied, 2)
        if first.ranking.model_hash == second.ranking.model_hash
        and first.ranking.data_hash != second.ranking.data_hash
    ]


def kendall(first: ArrayLike, second: ArrayLike) -> float | None:
    """Kendall's tau-b of two rows of numbers; None where one's are all equal, or one number.

    Source: Kendall (1945), "The treatment of ties in ranking problems".
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if not _varied(x) or not _varied(y):
        return None
    # With equal weights this is tau-b. `kendalltau` finds a p-value too, and for that of ties it
    # calls what NumPy warns of.
    return float(scipy.stats.weightedtau(x, y, rank=False, weigher=_equally)[0])


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rho of two rows of numbers; None where one's are all equal, or one number."""
    x, y = np.asarray(first, float), np.asarray(second, float)
    if not _varied(x) or not _varied(y):
        return None
    ranks = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
    return float(np.corrcoef(*ranks)[0, 1])


def _equally(rank: int) -> float:
    return 1.0


def _varied(values: NDArray[np.float64]) -> bool:
    return len(values) > 1 and float(np.ptp(values)) > 0


def agreement(first: Ranking, second: Ranking) -> float | None:
    """Kendall's tau of the blocks' penalties in two rankings, such as those of two data sets.

    Returns:
        From -1, the other way round, to 1, the same order; None where all blocks of one have
        the same penalty.

    Raises:
        ValueError: They are of other blocks.
    """
    _same_blocks(first, second, "two rankings")
    return kendall([*first.penalties().values()], [*second.penalties().values()])


def stability(rankings: Sequence[Ranking]) -> float | None:
    """Mean `agreement` over all pairs.

    Returns:
        None where no pair has one. A pair without one counts for nothing.
    """
    found = [agreement(*pair) for pair in combinations(rankings, 2)]
    defined = [tau for tau in found if tau is not None]
    return float(np.mean(defined)) if defined else None


def agreement_with_last(over_training: Mapping[int, Ranking]) -> dict[int, float | None]:
    """`agreement` of each checkpoint's ranking with the last one's, by rising step."""
    last = over_training[max(over_training)]
    return {step: agreement(over_training[step], last) for step in sorted(over_training)}


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How far one number a block orders the blocks as their penalties do.

    Args:
        spearman: Spearman's rho; None where all values or all penalties are equal.
        kendall: Kendall's tau-b, likewise.
    """

    spearman: float | None
    kendall: float | None


def correlate(values: ArrayLike, penalties: ArrayLike) -> Correlation:
    """Correlates a value of each block with its penalty, by rank."""
    return Correlation(spearman=spearman(values, penalties), kendall=kendall(values, penalties))


def correlate_signal(signal: Signal, ranking: Ranking) -> Correlation:
    """Correlates a signal with the penalties of the blocks.

    Raises:
        ValueError: It has another number of blocks.
    """
    penalties = [*ranking.penalties().values()]
    if len(signal.values) != len(penalties):
        raise ValueError(
            f"{signal.name} must have a value a block; got {len(signal.values)} values, "
            f"{len(penalties)} blocks"
        )
    return correlate(signal.values, penalties)


def by_correlation(signals: Sequence[Signal], ranking: Ranking) -> list[tuple[Signal, Correlation]]:
    """Signals with their correlation, the highest Spearman's rho first, the undefined last."""
    found = [(signal, correlate_signal(signal, ranking)) for signal in signals]
    return sorted(found, key=lambda pair: 2 if pair[1].spearman is None else -pair[1].spearman)


def correlate_churn(churn: Churn, ranking: Ranking) -> dict[str, Correlation]:
    """Correlates each module's churn with the penalties of resetting that module alone.

    Modules that were not reset alone are left out, as are blocks without the module.
    """
    found: dict[str, dict[int, float]] = {}
    for score in ranking.modules:
        found.setdefault(score.module, {})[score.blocks[0]] = score.penalty
    return {
        module: correlate(row[list(found[module])], list(found[module].values()))
        for module, row in zip(churn.modules, churn.normalised, strict=True)
        if module in found
    }


def correlate_churn_with_blocks(churn: Churn, ranking: Ranking) -> dict[str, Correlation]:
    """Correlates each module's churn with the penalties of resetting the whole block."""
    penalties = ranking.penalties()
    return {
        module: correlate(row[list(penalties)], list(penalties.values()))
        for module, row in zip(churn.modules, churn.normalised, strict=True)
    }


def _error_rates(ranking: Ranking) -> list[float]:
    scores = sorted(ranking.blocks, key=lambda score: score.blocks)
    return [float(np.mean(score.rerandomised_wer)) for score in scores]


def _same_blocks(first: Ranking, second: Ranking, where: str) -> None:
    ours, theirs = list(first.penalties()), list(second.penalties())
    if ours != theirs:
        raise ValueError(f"{where} must be of the same blocks; got {ours} and {theirs}")
