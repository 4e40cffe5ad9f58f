"""The sections of a study's report that set rankings and signals beside one another."""

from collections.abc import Mapping, Sequence

from tfasr.artifacts.html import Html, drawing, element, join, table
from tfasr.models.churn import Churn
from tfasr.preparation.report_sections import NOTHING, heading
from tfasr.study.comparison import (
    Correlation,
    Studied,
    agreement,
    agreement_with_last,
    by_correlation,
    correlate_churn,
    correlate_churn_with_blocks,
    families,
    of_two_sets,
)
from tfasr.study.drawing import plain
from tfasr.study.figures_comparison import (
    draw_churn,
    draw_churn_lines,
    draw_families,
    draw_over_training,
    draw_signals,
)
from tfasr.study.ranking import Ranking
from tfasr.study.report_sections import csv_link, is_measured, rate
from tfasr.study.signals import Signal

_TAU = (
    "Kendall's tau compares two orders of the blocks: 1 is the same order, 0 no likeness, "
    "\N{MINUS SIGN}1 the reverse."
)


def training_section(over_training: Mapping[int, Ranking], margin: float) -> Html:
    """The same study at checkpoints along the run."""
    if not over_training:
        return join()
    caption = (
        "Each row is a checkpoint, the earliest on top; cells are the rise of the word error rate, "
        "in points, when the block of that column is reset. While the intact model still errs "
        "on most words, a reset can't add much. On the right, Kendall's tau with the last row."
    )
    agreements = agreement_with_last(over_training)
    rows = [
        [
            f"{step:,}",
            rate(over_training[step].baseline_wer),
            f"{len(over_training[step].ambient(margin)):,}",
            number(tau),
        ]
        for step, tau in agreements.items()
    ]
    header = ["step", "intact error rate", "ambient blocks", "tau with the last"]
    title = "Penalty of each block at checkpoints along the training"
    return join(
        heading("Over the training", "training"),
        element("p", "When does it become clear which blocks matter? " + _TAU),
        drawing(draw_over_training(over_training), title, caption),
        table(header, rows, "rrrr"),
        csv_link("over_training"),
    )


def families_section(others: Sequence[Studied], margin: float) -> Html:
    """Several runs of several kinds of models."""
    if not others:
        return join()
    groups = families(others)
    said = (
        "Models of several kinds were trained and studied in the same way, each kind with one or "
        f"several seeds: runs that differ in nothing but chance. {_TAU} Its mean over all pairs of "
        "runs of a kind says whether the same blocks are ambient each time."
    )
    caption = (
        "A panel for each kind of model: the word error rate with each block given fresh random "
        "weights. The line is the mean over runs, the band goes from the best to the worst run, "
        "the dashed line is the intact model."
    )
    rows = []
    for family in groups:
        low, high = float(family.intact.min()), float(family.intact.max())
        between = f"{rate(low)} to {rate(high)}" if len(family.runs) > 1 else NOTHING
        counts = ", ".join(str(count) for count in family.ambient(margin).values())
        intact = rate(float(family.intact.mean()))
        rows.append([family.name, f"{len(family.runs)}", intact, between, counts])
        rows[-1] += [f"{len(family.blocks)}", number(family.stability())]
    header = ["model", "runs", "intact", "range", "ambient, each run", "of blocks", "mean tau"]
    title = "Word error rate with each block re-randomised, by kind of model"
    return join(
        heading("Other models and other seeds", "families"),
        element("p", said),
        drawing(draw_families(groups), title, caption),
        table(header, rows, "lrrrrrr"),
        _sets(others),
        csv_link("families"),
    )


def _sets(others: Sequence[Studied]) -> Html:
    """How far two evaluation sets agree about the same model."""
    rows = [
        [
            first.family,
            f"{first.seed}",
            *(f"{run.ranking.words:,} ({run.ranking.data_hash[:8]})" for run in (first, second)),
            number(agreement(first.ranking, second.ranking)),
        ]
        for first, second in of_two_sets(others)
    ]
    if not rows:
        return join()
    header = ["model", "seed", "words of one set", "of the other", "tau"]
    said = "The same models, evaluated on two sets of utterances:"
    return join(element("p", said), table(header, rows, "lrrrr"))


def churn_section(churns: Sequence[Churn], ranking: Ranking) -> Html:
    """How far training moved the weights."""
    if not churns:
        return join()
    last = max(churns, key=lambda churn: churn.step)
    said = (
        "Training moves the weights of each module away from where they began; churn is how far, "
        "as a share of the block in which that module moved farthest. Were the blocks that moved "
        "little the ambient ones, churn would tell them without any reset."
    )
    caption = (
        f"Each row is a module, each column a block, at step {last.step:,}. 1 is where the module "
        "moved farthest; the darker, the farther."
    )
    lines = "The same as lines, a panel for each module. The bold line is the last checkpoint."
    several = len({churn.step for churn in churns}) > 1
    title = "Churn of each module over the blocks, at several steps"
    over = drawing(draw_churn_lines(churns), title, lines) if several else join()
    return join(
        heading("Churn: how far the weights moved", "churn"),
        element("p", said),
        drawing(draw_churn(last), "Churn of each module in each block", caption),
        over,
        _churn_correlations(last, ranking) if is_measured(ranking) else join(),
        csv_link("churn"),
    )


def _churn_correlations(churn: Churn, ranking: Ranking) -> Html:
    said = (
        "How far churn and the rise of the error rate on a reset put the blocks in the same order, "
        "from \N{MINUS SIGN}1, the reverse, over 0, no likeness, to 1, by Spearman's rho and "
        "Kendall's tau:"
    )
    blocks, alone = correlate_churn_with_blocks(churn, ranking), correlate_churn(churn, ranking)
    none = Correlation(spearman=None, kendall=None)
    rows = []
    for module in churn.modules:
        own = alone.get(module, none)
        pairs = (blocks[module].spearman, blocks[module].kendall, own.spearman, own.kendall)
        rows.append([plain(module), *(number(one) for one in pairs)])
    header = ["module", "whole block reset: rho", "tau", "the module reset: rho", "tau"]
    if not ranking.modules:
        header, rows = header[:3], [row[:3] for row in rows]
    return join(element("p", said), table(header, rows, "l" + "r" * (len(header) - 1)))


def signals_section(signals: Sequence[Signal], ranking: Ranking) -> Html:
    """Cheap signals beside the resets."""
    if not signals:
        return join()
    said = (
        "Resets need an evaluation for each block. These signals are cheaper; the question is "
        "whether they put the blocks in the same order."
    )
    caption = (
        "On the left, how well each signal orders the blocks as the resets do: 1 is the same "
        "order, 0 no likeness, less than 0 the reverse. On the right, what it took."
    )
    rows = []
    for signal, found in by_correlation(signals, ranking):
        row = [plain(signal.name), number(found.spearman), number(found.kendall)]
        rows.append([*row, f"{signal.seconds:,.2f}"])
    rows.append(["the resets themselves", "1.00", "1.00", f"{ranking.seconds:,.2f}"])
    header = ["signal", "Spearman's rho", "Kendall's tau", "seconds"]
    return join(
        heading("Cheaper signals", "signals"),
        element("p", said),
        drawing(draw_signals(signals, ranking), "Rank correlation and cost of signals", caption),
        table(header, rows, "lrrr"),
        csv_link("signals"),
    )


def number(value: float | None) -> str:
    """A correlation."""
    return "not defined" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
