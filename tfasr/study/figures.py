"""Figures of a study."""

from pathlib import Path

from matplotlib.figure import Figure

from tfasr.artifacts.files import atomic_path
from tfasr.study.ranking import Ranking


def draw_blocks(ranking: Ranking, margin: float, path: Path) -> None:
    """Draws the error rate with each block reset, as in figure 3 of "Ambient layers".

    Args:
        ranking: The study's outcome.
        margin: Penalty under which a block is called ambient.
        path: A PNG file; written whole or not at all.
    """
    scores = sorted(ranking.blocks, key=lambda score: score.block)
    places = [score.block for score in scores]
    figure = Figure(figsize=(max(5.0, 0.5 * len(scores) + 2), 3.6), layout="constrained")
    axes = figure.subplots()
    fresh = [100 * score.wer for score in scores]
    reach = [
        [100 * max(0.0, score.penalty - score.interval[0]) for score in scores],
        [100 * max(0.0, score.interval[1] - score.penalty) for score in scores],
    ]
    colours = ["C0" if score.interval[1] < margin else "C3" for score in scores]
    axes.bar(places, fresh, color=colours, alpha=0.85)
    axes.errorbar(places, fresh, reach, fmt="none", ecolor="black", capsize=3, linewidth=1)
    first = [100 * score.reinitialised_wer for score in scores]
    axes.plot(places, first, "D", color="black", markersize=4, label="weights of step 0")
    intact = 100 * ranking.baseline_wer
    axes.axhline(intact, color="grey", linestyle="--", label=f"intact, {intact:.1f} %")
    axes.bar(0, 0, color="C0", label="fresh weights, ambient")
    axes.bar(0, 0, color="C3", label="fresh weights, critical")
    axes.set_xlabel("block that was reset")
    axes.set_ylabel("word error rate, %")
    axes.set_xticks(places)
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=150, format="png")
