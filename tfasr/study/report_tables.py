"""The tables of a study, as CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfasr.artifacts.files import write_text
from tfasr.models.churn import Churn
from tfasr.study.comparison import Studied, correlate_signal
from tfasr.study.ranking import Ranking, Score
from tfasr.study.signals import Signal

Row = dict[str, object]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows of the same columns, whole or not at all; what is None is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    write_text(path, text.getvalue())


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def score_rows(scores: Sequence[Score], ranking: Ranking, margin: float) -> list[Row]:
    """A row a score, in their order; shares of words, not hundredths."""
    return [{**_place(score), **_figures(score, ranking, margin)} for score in scores]


def _place(score: Score) -> Row:
    blocks = " ".join(map(str, score.blocks))
    if score.module:
        return {"block": blocks, "module": score.module}
    return {"block": blocks} if len(score.blocks) == 1 else {"blocks": blocks}


def _figures(score: Score, ranking: Ranking, margin: float) -> Row:
    low, high = score.interval or (None, None)
    fresh = float(np.mean(score.rerandomised_wer)) if score.rerandomised_wer else None
    return {
        "verdict": None if score.interval is None else score.verdict(margin),
        "penalty": score.penalty,
        "low": low,
        "high": high,
        "rerandomised_wer": fresh,
        "reinitialised_wer": score.reinitialised_wer,
        "intact_wer": ranking.baseline_wer,
    }


def cumulative_rows(ranking: Ranking, margin: float) -> list[Row]:
    """A row a set of the most ambient blocks."""
    return [
        {
            "count": len(score.blocks),
            "blocks": " ".join(map(str, score.blocks)),
            **_figures(score, ranking, margin),
        }
        for score in ranking.cumulative
    ]


def training_rows(over_training: Mapping[int, Ranking], margin: float) -> list[Row]:
    """A row a block and checkpoint, by rising step."""
    return [
        {"step": step, **row}
        for step, ranking in sorted(over_training.items())
        for row in score_rows(_upwards(ranking), ranking, margin)
    ]


def family_rows(others: Sequence[Studied], margin: float) -> list[Row]:
    """A row a block and run."""
    return [
        {"family": run.family, "seed": run.seed, **row}
        for run in others
        for row in score_rows(_upwards(run.ranking), run.ranking, margin)
    ]


def _upwards(ranking: Ranking) -> list[Score]:
    return sorted(ranking.blocks, key=lambda score: score.blocks)


def churn_rows(churns: Sequence[Churn]) -> list[Row]:
    """A row a step, module and block."""
    return [
        {
            "step": churn.step,
            "module": module,
            "block": block,
            "moved": float(churn.moved[row, block]),
            "first": float(churn.first[row, block]),
            "normalised": float(churn.normalised[row, block]),
            "relative": float(churn.relative[row, block]),
        }
        for churn in sorted(churns, key=lambda churn: churn.step)
        for row, module in enumerate(churn.modules)
        for block in range(churn.moved.shape[1])
    ]


def signal_rows(signals: Sequence[Signal], ranking: Ranking) -> list[Row]:
    """A row a signal: how far it agrees, what it took, and its value in each block."""
    rows: list[Row] = []
    for signal in signals:
        found = correlate_signal(signal, ranking)
        values = {f"block_{block}": float(value) for block, value in enumerate(signal.values)}
        row: Row = {"signal": signal.name, "spearman": found.spearman, "kendall": found.kendall}
        rows.append({**row, "seconds": signal.seconds, **values})
    return rows
