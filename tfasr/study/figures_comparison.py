"""Figures over checkpoints, seeds and families of models, and of churn and other signals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tfasr.artifacts.html import INK
from tfasr.models.churn import Churn
from tfasr.study.comparison import Family, agreement_with_last, by_correlation
from tfasr.study.drawing import (
    BLOCK,
    BLUE,
    ORANGE,
    WER,
    Shades,
    block_axis,
    heat_map,
    inked,
    legend,
    new_figure,
    penalty_shades,
    plain,
)
from tfasr.study.ranking import Ranking
from tfasr.study.signals import Signal

# Panels beside one another, and checkpoints that lines are drawn of.
_ABREAST, _LINES = 2, 5


@inked
def draw_over_training(over_training: Mapping[int, Ranking]) -> Figure:
    """Draws the blocks' penalties at checkpoints, and how like the last each orders them.

    Args:
        over_training: Rankings of one run, by step.
    """
    steps = sorted(over_training)
    rankings = [over_training[step] for step in steps]
    blocks = list(rankings[0].penalties())
    values = np.array([list(ranking.penalties().values()) for ranking in rankings])
    figure = new_figure(len(blocks) + 6, 1.2 + 0.3 * len(steps))
    left, right = figure.subplots(1, 2, width_ratios=[5, 1], sharey=True)
    heat_map(
        left,
        values,
        [
            f"step {step:,}, intact {100 * ranking.baseline_wer:.1f} %"
            for step, ranking in zip(steps, rankings, strict=True)
        ],
        blocks,
        penalty_shades(values),
    )
    agreements = agreement_with_last(over_training).values()
    places = [place + 0.5 for place, tau in enumerate(agreements) if tau is not None]
    right.plot([tau for tau in agreements if tau is not None], places, "o-", color=BLUE)
    right.axvline(0, color=INK, linewidth=0.6)
    right.set(xlim=(-1.1, 1.1), xticks=[-1, 0, 1], xlabel="Kendall's tau\nwith the last")
    right.spines[["top", "left", "right"]].set_visible(False)
    right.tick_params(axis="y", length=0, labelleft=False)
    return figure


@inked
def draw_families(families: Sequence[Family]) -> Figure:
    """Draws each family's error rates with each block re-randomised, over its seeds.

    Args:
        families: Some.

    Source: "Ambient layers", figures 2 and 4.
    """
    abreast = min(_ABREAST, len(families))
    down = -(-len(families) // abreast)
    figure = new_figure(18 if abreast > 1 else 10, 0.8 + 2.1 * down)
    panels = figure.subplots(down, abreast, sharey=True, squeeze=False).ravel()
    for number, (axes, family) in enumerate(zip(panels, families, strict=False)):
        block_axis(axes, family.blocks, BLOCK if number >= len(families) - abreast else "")
        axes.tick_params(axis="x", labelsize=7.5)
        axes.fill_between(
            family.blocks,
            100 * family.lowest,
            100 * family.highest,
            color=BLUE,
            alpha=0.3,
            linewidth=0,
            label="from the best to the worst run",
        )
        axes.plot(family.blocks, 100 * family.mean, "o-", color=BLUE, ms=3.5, label="mean of runs")
        intact = 100 * float(family.intact.mean())
        axes.axhline(intact, color=INK, linestyle="--", linewidth=1, label="nothing reset")
        axes.set_title(family.name, fontsize=9)
        axes.set_ylim(bottom=0)
        if number % abreast == 0:
            axes.set_ylabel(WER)
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    legend(figure, panels[0])
    return figure


@inked
def draw_churn(churn: Churn) -> Figure:
    """Draws how far each module was moved in each block, as a share of the farthest.

    Args:
        churn: Of one checkpoint.

    Source: "Ambient layers", figure 5.
    """
    count = churn.moved.shape[1]
    figure = new_figure(count + 2, 0.9 + 0.34 * len(churn.modules))
    heat_map(
        figure.subplots(),
        churn.normalised,
        [plain(module) for module in churn.modules],
        range(count),
        Shades("Blues", "share", Normalize(0, 1), lambda value: f"{value:.2f}"),
    )
    return figure


@inked
def draw_churn_lines(churns: Sequence[Churn]) -> Figure:
    """Draws the same as lines over the blocks, a panel a module, at several steps.

    Args:
        churns: Of checkpoints of one run, with the same modules; of many, some are drawn.
    """
    ordered = sorted(churns, key=lambda churn: churn.step)
    chosen = np.unique(np.linspace(0, len(ordered) - 1, _LINES).round().astype(int))
    names = ordered[-1].modules
    abreast = min(_ABREAST, len(names))
    down = -(-len(names) // abreast)
    figure = new_figure(18 if abreast > 1 else 10, 0.8 + 1.6 * down)
    panels = figure.subplots(down, abreast, sharex=True, sharey=True, squeeze=False).ravel()
    for row, (axes, name) in enumerate(zip(panels, names, strict=False)):
        for place, index in enumerate(chosen):
            churn, last = ordered[index], index == chosen[-1]
            axes.plot(
                churn.normalised[row],
                color=BLUE if last else INK,
                alpha=1.0 if last else 0.2 + 0.5 * place / _LINES,
                linewidth=2 if last else 1.2,
                label=f"step {churn.step:,}",
            )
        block_axis(axes, range(churn.moved.shape[1]), BLOCK if row >= len(names) - abreast else "")
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_title(plain(name), fontsize=9)
        axes.set_ylim(0, 1.05)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supylabel("share of the block that moved most", fontsize=9)
    legend(figure, panels[0], len(chosen))
    return figure


@inked
def draw_signals(signals: Sequence[Signal], ranking: Ranking) -> Figure:
    """Draws how well signals order the blocks as the resets do, beside what they took.

    Args:
        signals: Some.
        ranking: By resets.
    """
    found = by_correlation(signals, ranking)[::-1]
    figure = new_figure(14, 1.1 + 0.34 * len(found))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, (signal, correlation) in enumerate(found):
        if correlation.spearman is None or correlation.kendall is None:
            left.text(0.02, place, "not defined", va="center", fontsize=7.5)
        else:
            left.barh(place + 0.19, correlation.spearman, 0.36, color=BLUE)
            left.barh(place - 0.19, correlation.kendall, 0.36, color=ORANGE)
        right.barh(place, signal.seconds, 0.5, color=INK, alpha=0.45)
        right.text(signal.seconds, place, f" {_seconds(signal.seconds)}", va="center", fontsize=7.5)
    right.axvline(ranking.seconds, color=INK, linewidth=0.8, linestyle=":")
    left.barh(0, 0, color=BLUE, label="Spearman's rho")
    left.barh(0, 0, color=ORANGE, label="Kendall's tau")
    left.set_yticks(range(len(found)), [plain(signal.name) for signal, _ in found])
    left.axvline(0, color=INK, linewidth=0.6)
    left.set(xlim=(-1, 1), xlabel="rank correlation with the penalties")
    right.set(xlabel="cost, seconds (dotted: the resets)")
    right.margins(x=0.25)
    for axes in (left, right):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    legend(figure, left, 2)
    return figure


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
