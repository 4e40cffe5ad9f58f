"""Figures of one study: what the reset of blocks, modules and sets of blocks does."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfasr.artifacts.html import INK
from tfasr.study.drawing import (
    BLUE,
    GREY,
    VERMILION,
    WER,
    block_axis,
    heat_map,
    in_order,
    inked,
    legend,
    new_figure,
    penalty_shades,
    plain,
)
from tfasr.study.ranking import Ranking, Score, Verdict

# Told apart by more than their colour: the undecided are hatched.
_VERDICTS: dict[Verdict, str] = {"ambient": BLUE, "undecided": GREY, "critical": VERMILION}
# Margins in a panel's height in which one can still be read.
_SEEN = 6


@inked
def draw_blocks(ranking: Ranking, margin: float) -> Figure:
    """Draws the error rate with each block reset.

    A ranking by a signal has its values drawn instead.

    Args:
        ranking: The study's outcome.
        margin: Largest penalty of an ambient block.

    Source: "Ambient layers", figure 3.
    """
    scores = sorted(ranking.blocks, key=lambda score: score.blocks)
    places = [score.blocks[0] for score in scores]
    if any(score.interval is None for score in scores):
        figure = new_figure(len(scores), 3.3)
        axes = figure.subplots()
        axes.bar(places, [score.penalty for score in scores], color=GREY)
        axes.set_ylabel(f"signal: {plain(ranking.method)}")
        block_axis(axes, places)
        return figure
    figure, panels = _panels(scores, ranking, margin)
    for axes in panels:
        _bars(axes, scores, ranking, margin)
        _error_bars(axes, places, scores, ranking)
        if ranking.method != "reinitialise":
            _diamonds(axes, scores)
        _levels(axes, ranking, margin)
    block_axis(panels[-1], places)
    legend(figure, panels[0])
    return figure


def _panels(
    scores: Sequence[Score], ranking: Ranking, margin: float
) -> tuple[Figure, Sequence[Axes]]:
    """One panel, or where high error rates would hide the margin, one more that enlarges it."""
    intact = ranking.baseline_wer
    highest = max(score.penalty for score in scores)
    if highest < _SEEN * margin:
        figure = new_figure(len(scores), 3.3)
        panels = [figure.subplots()]
    else:
        figure = new_figure(len(scores), 5.2)
        panels = list(figure.subplots(2, 1, sharex=True))
        closeup = [100 * max(0.0, intact - 2 * margin), 100 * (intact + 4 * margin)]
        panels[1].set(ylim=closeup, ylabel="the same, enlarged")
    ends = [margin, *(end for score in scores for end in score.interval or ())]
    panels[0].set(ylim=(0, 105 * (intact + max(ends))), ylabel=WER)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _bars(axes: Axes, scores: Sequence[Score], ranking: Ranking, margin: float) -> None:
    """Bars from zero, each in the colour of its verdict."""
    for verdict, colour in _VERDICTS.items():
        own = [score for score in scores if score.verdict(margin) == verdict]
        axes.bar(
            [score.blocks[0] for score in own],
            [100 * (ranking.baseline_wer + score.penalty) for score in own],
            color=colour,
            edgecolor=INK,
            linewidth=0,
            hatch="////" if verdict == "undecided" else None,
        )
        # Bars of their own for the legend, which an empty kind has too.
        axes.bar(
            scores[0].blocks,
            0,
            color=colour,
            edgecolor=INK,
            linewidth=0,
            hatch="////" if verdict == "undecided" else None,
            label=f"{verdict}, {len(own)}",
        )


def _diamonds(axes: Axes, scores: Sequence[Score]) -> None:
    """Error rates with the first weights."""
    known = [(s.blocks[0], s.reinitialised_wer) for s in scores if s.reinitialised_wer is not None]
    axes.plot(
        [block for block, _ in known],
        [100 * wer for _, wer in known],
        linestyle="none",
        marker="D",
        markersize=4.5,
        color="#ffffff",
        markeredgecolor="#000000",
        label="with its first weights",
    )


def _error_bars(
    axes: Axes, places: Sequence[float], scores: Sequence[Score], ranking: Ranking
) -> None:
    """95 % intervals around the error rates."""
    ends = [score.interval or (score.penalty, score.penalty) for score in scores]
    reach = [
        # A penalty and the end of an interval without width may differ in their last bit.
        [100 * max(0.0, score.penalty - end[0]) for score, end in zip(scores, ends, strict=True)],
        [100 * max(0.0, end[1] - score.penalty) for score, end in zip(scores, ends, strict=True)],
    ]
    heights = [100 * (ranking.baseline_wer + score.penalty) for score in scores]
    axes.errorbar(places, heights, reach, fmt="none", ecolor=INK, capsize=3, linewidth=1)


def _levels(axes: Axes, ranking: Ranking, margin: float) -> None:
    """Lines where nothing is reset, and where the margin lies above it."""
    intact = 100 * ranking.baseline_wer
    axes.axhline(intact, color=INK, linestyle="--", linewidth=1, label=f"intact, {intact:.1f} %")
    over = f"margin, {100 * margin:g} points above"
    axes.axhline(intact + 100 * margin, color=INK, linestyle=":", linewidth=1, label=over)


@inked
def draw_modules(ranking: Ranking) -> Figure:
    """Draws the penalty of each module of each block, reset alone.

    Args:
        ranking: With modules.
    """
    blocks = list(ranking.penalties())
    names = in_order({score.module for score in ranking.modules})
    values = np.full([len(names) + 1, len(blocks)], np.nan)
    values[-1] = list(ranking.penalties().values())
    for score in ranking.modules:
        values[names.index(score.module), blocks.index(score.blocks[0])] = score.penalty
    figure = new_figure(len(blocks) + 2, 0.9 + 0.34 * len(values))
    heat_map(
        figure.subplots(),
        values,
        [*map(plain, names), "whole block"],
        blocks,
        penalty_shades(values),
    )
    return figure


@inked
def draw_cumulative(ranking: Ranking, margin: float) -> Figure:
    """Draws the error rate with more and more of the most ambient blocks reset together.

    Args:
        ranking: With cumulative sets.
        margin: Largest penalty that is ambient.
    """
    scores = ranking.cumulative
    counts = [len(score.blocks) for score in scores]
    rates = [100 * (ranking.baseline_wer + score.penalty) for score in scores]
    figure, panels = _panels(scores, ranking, margin)
    for axes in panels:
        axes.plot(counts, rates, color=BLUE, marker="o", markersize=4, label="reset together")
        _error_bars(axes, counts, scores, ranking)
        _levels(axes, ranking, margin)
    block_axis(panels[-1], counts, "most ambient blocks reset together")
    legend(figure, panels[0])
    return figure


@inked
def draw_pairs(ranking: Ranking) -> Figure:
    """Draws the penalty of each two blocks reset together, and of each alone on the diagonal.

    Args:
        ranking: With pairs.
    """
    blocks = list(ranking.penalties())
    values = np.full([len(blocks), len(blocks)], np.nan)
    for score in (*ranking.blocks, *ranking.pairs):
        first, second = score.blocks[0], score.blocks[-1]
        values[blocks.index(max(first, second)), blocks.index(min(first, second))] = score.penalty
    figure = new_figure(len(blocks), max(3.0, min(0.8 + 0.27 * len(blocks), 6.5)))
    axes = figure.subplots()
    heat_map(axes, values, [str(block) for block in blocks], blocks, penalty_shades(values))
    axes.set_ylabel("and block")
    return figure
