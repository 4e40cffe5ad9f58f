"""Which of the ambient-layers paper's claims hold of runs that `tfasr study` went through?

Runs that differ in nothing but their seed are taken together; figures are means over them. What is
printed, by the paper's claim:

- (a), (b): how many blocks are ambient, alone and all at once, by kind of model;
- (c): weights of step 0 against fresh ones: the difference in error rate, the share of blocks that
  are better off with the first, and how far both order the blocks alike;
- (d): rise of the error rate with a block reset, mean over blocks and of the most ambient half
  all at once: group norm beside batch norm;
- (e): of runs studied with `--over_training true`, at each checkpoint: ambient blocks, the rise of
  the most critical quarter less that of the others, agreement with the last checkpoint;
- (f), (g): Spearman's rho with the block's place of each module's churn and of the penalty, and R2
  of a straight line through the logarithm of churn (1 is a geometric row);
- (h): Kendall's tau between runs, blocks that are ambient in all of them, and the mean distance
  between a block's best and worst run, of all blocks and of those that are ambient on average.

`--figure` draws the error rate by block, a panel for each kind of model.
`python -m benchmarks.claims RUN RUN ... [--margin 0.02] [--figure FILE.png] [--json]`
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tfasr.artifacts.files import atomic_path
from tfasr.configs.study import StudyConfig
from tfasr.study.comparison import Family, Studied, families, spearman, study_folder
from tfasr.study.figures_comparison import draw_families
from tfasr.study.ranking import Ranking

Figures = dict[str, float | None]


def main() -> None:
    """Reads the studies, prints the tables and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="runs that were studied, or studies")
    parser.add_argument("--margin", type=float, default=StudyConfig.margin)
    parser.add_argument("--figure", type=Path, help="PNG file to draw into")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    studied = {folder: Studied.read(folder) for folder in arguments.runs}
    groups = families(list(studied.values()))
    found = {
        family.name: {
            **sizes(family, arguments.margin),
            **resets(family),
            **places(family, arguments.margin),
            **runs(family, arguments.margin),
            **churn([f for f, one in studied.items() if one in family.runs]),
        }
        for family in groups
    }
    _tell("By kind of model", found)
    for folder in studied:
        training = over_training(study_folder(folder))
        if training:
            _tell(f"Over training, {folder.name}", training)
    if arguments.figure is not None:
        with atomic_path(arguments.figure) as staged:
            draw_families(groups).savefig(staged, dpi=110, format="png")
    if arguments.json:
        print(json.dumps(found))


def sizes(family: Family, margin: float) -> Figures:
    """Claims (a) and (b)."""
    rankings = [run.ranking for run in family.runs]
    counts = [len(ranking.ambient(margin)) for ranking in rankings]
    together = [ranking.ambient_together(margin) for ranking in rankings if ranking.cumulative]
    return {
        "runs": len(rankings),
        "wer": float(family.intact.mean()),
        "ambient": float(np.mean(counts)),
        "ambient_least": min(counts),
        "ambient_most": max(counts),
        "ambient_share": float(np.mean(counts)) / len(family.blocks),
        "ambient_together": float(np.mean(together)) if together else None,
    }


def resets(family: Family) -> Figures:
    """Claims (c) and (d)."""
    first = np.array([_first_weights(run.ranking) for run in family.runs])  # [S, L]
    fresh = family.error_rates
    alike = [spearman(*pair) for pair in zip(first, fresh, strict=True)]
    halves = [_half_together(run.ranking) for run in family.runs if run.ranking.cumulative]
    return {
        "fresh_less_first": float((fresh - first).mean()),
        "first_no_worse": float((first <= fresh).mean()),
        "first_fresh_rho": _mean(alike),
        "rise": float((fresh - family.intact[:, None]).mean()),
        "rise_half_together": _mean(halves),
    }


def places(family: Family, margin: float) -> Figures:
    """Claim (g)."""
    place = np.array(family.blocks)
    rhos = [spearman(place, [*run.ranking.penalties().values()]) for run in family.runs]
    critical = [
        score.blocks[0]
        for run in family.runs
        for score in run.ranking.blocks
        if score.verdict(margin) == "critical"
    ]
    middle = len(place) / 2
    return {
        "penalty_place_rho": _mean(rhos),
        "critical_lower_half": sum(block < middle for block in critical) / len(family.runs),
        "critical_upper_half": sum(block >= middle for block in critical) / len(family.runs),
    }


def runs(family: Family, margin: float) -> Figures:
    """Claim (h)."""
    always = set.intersection(*(set(run.ranking.ambient(margin)) for run in family.runs))
    between = family.highest - family.lowest
    calm = family.mean - family.intact.mean() < margin
    return {
        "tau_between_runs": family.stability(),
        "ambient_in_all": len(always),
        "range": float(between.mean()),
        "range_of_ambient": float(between[calm].mean()) if calm.any() else None,
    }


def churn(folders: Sequence[Path]) -> Figures:
    """Claim (f), of the last checkpoint that each study measured."""
    rhos: dict[str, list[float | None]] = {}
    fits: dict[str, list[float | None]] = {}
    for folder in folders:
        for module, row in _churn(study_folder(folder) / "churn.csv").items():
            rhos.setdefault(module, []).append(spearman(range(len(row)), row))
            fits.setdefault(module, []).append(straightness(np.log(row)))
    return {
        **{f"churn_rho {module}": _mean(values) for module, values in rhos.items()},
        **{f"churn_r2 {module}": _mean(values) for module, values in fits.items()},
    }


def straightness(values: NDArray[np.float64]) -> float:
    """R2 of the straight line through values at equal distances."""
    return float(np.corrcoef(np.arange(len(values)), values)[0, 1] ** 2)


def over_training(study: Path) -> dict[str, Figures]:
    """Claim (e), by checkpoint; nothing where it was not studied."""
    path = study / "over_training.csv"
    rows = _table(path) if path.is_file() else []
    steps = sorted({int(row["step"]) for row in rows})
    risen = {s: np.array([float(r["penalty"]) for r in rows if int(r["step"]) == s]) for s in steps}
    return {
        str(step): {
            "ambient": sum(r["verdict"] == "ambient" for r in rows if int(r["step"]) == step),
            "separation": separation(risen[step]),
            "agreement_with_last": spearman(risen[step], risen[steps[-1]]),
        }
        for step in steps
    }


def separation(penalties: NDArray[np.float64]) -> float:
    """Mean of the most critical quarter of the blocks, less the mean of the others."""
    rising = np.sort(penalties)
    critical = max(1, len(rising) // 4)
    return float(rising[-critical:].mean() - rising[:-critical].mean())


def _first_weights(ranking: Ranking) -> list[float]:
    scores = sorted(ranking.blocks, key=lambda score: score.blocks)
    return [score.reinitialised_wer or 0.0 for score in scores]


def _half_together(ranking: Ranking) -> float:
    return ranking.cumulative[len(ranking.blocks) // 2 - 1].penalty


def _churn(path: Path) -> dict[str, NDArray[np.float64]]:
    rows = _table(path)
    last = max(int(row["step"]) for row in rows)
    found: dict[str, list[float]] = {}
    for row in rows:
        if int(row["step"]) == last and float(row["moved"]):
            found.setdefault(row["module"], []).append(float(row["moved"]))
    return {module: np.array(values) for module, values in found.items()}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _tell(title: str, found: dict[str, Figures]) -> None:
    table = Table("", *found, title=title)
    for figure in dict.fromkeys(name for figures in found.values() for name in figures):
        values = (figures.get(figure) for figures in found.values())
        table.add_row(figure, *("" if value is None else f"{value:.3g}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
