"""The figure of a sweep: what each form and number of frozen blocks weighs, and what it costs."""

from collections.abc import Sequence
from typing import get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfasr.artifacts.html import INK
from tfasr.configs.export import Form
from tfasr.export.sweep import Trial
from tfasr.study.drawing import BLUE, GREY, ORANGE, VERMILION, WER, inked, legend, new_figure

# Told apart by more than their colour.
_LOOKS: dict[Form, tuple[str, str]] = {
    "constant": (GREY, "s"),
    "seed": (BLUE, "o"),
    "pruned": (VERMILION, "v"),
    "int8": (ORANGE, "D"),
}
_COLUMNS = 16  # Of `new_figure`: a page's width.


@inked
def draw_sweep(trials: Sequence[Trial], max_loss: float) -> Figure:
    """Draws size against error rate: a line a form, a point a number of blocks, with intervals.

    Args:
        trials: The first has nothing frozen; those that were refused are left out.
        max_loss: What the error rate may be above the first one's, as a share of words: a line.
    """
    figure = new_figure(_COLUMNS, 3.6)
    axes = figure.subplots()
    for form in get_args(Form):
        _line(axes, [t for t in trials if t.freezing.blocks and t.freezing.form == form], form)
    first = trials[0].measured
    if first is not None:
        axes.plot(
            first.bytes / 1e6, 100 * first.evaluation.wer, "*", color=INK, label=trials[0].name
        )
        limit = 100 * (first.evaluation.wer + max_loss)
        axes.axhline(limit, color=INK, linewidth=0.8, linestyle=":", label="largest loss")
    axes.set(xlabel="size of all files, MB", ylabel=WER)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


def _line(axes: Axes, trials: Sequence[Trial], form: Form) -> None:
    measured = [(len(t.freezing.blocks), t.measured) for t in trials if t.measured is not None]
    if not measured:
        return
    colour, marker = _LOOKS[form]
    sizes = [each.bytes / 1e6 for _, each in measured]
    rates = [100 * each.evaluation.wer for _, each in measured]
    intervals = [each.evaluation.wer_interval for _, each in measured]
    reach = [
        [max(0.0, rate - 100 * low) for rate, (low, _) in zip(rates, intervals, strict=True)],
        [max(0.0, 100 * high - rate) for rate, (_, high) in zip(rates, intervals, strict=True)],
    ]
    axes.errorbar(
        sizes, rates, reach, color=colour, marker=marker, markersize=5, linewidth=1, label=form
    )
    for (count, _), size, rate in zip(measured, sizes, rates, strict=True):
        axes.annotate(str(count), (size, rate), xytext=(4, 4), textcoords="offset points")
