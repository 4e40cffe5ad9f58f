"""What the figures of a study share: colours, axes over blocks, heat maps."""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tfasr.artifacts.files import atomic_path
from tfasr.artifacts.html import ink

# Of the colours that Okabe & Ito chose for all kinds of colour vision, those that can be told
# from a white page and from a dark one.
BLUE, ORANGE, VERMILION, GREY = "#0072b2", "#e69f00", "#d55e00", "#8a929c"
# Up to so many blocks, each has its tick, and each cell of a heat map its number.
NUMBERED = 20
BLOCK = "block (0 is the first after the input)"
WER = "word error rate, %"
# The order in which a block runs its modules; those of other families follow by name.
_MODULES = ("feed_forward_1", "attention", "convolution", "feed_forward_2")
# Inches: what a page of 900 pixels shows without shrinking it, and what is still a figure.
_WIDEST, _NARROWEST = 8.6, 5.4

Given = ParamSpec("Given")


def inked(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Makes a function draw in the page's colours."""

    @functools.wraps(draw)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with ink():
            return draw(*args, **kwargs)

    return run


def write_png(figure: Figure, path: Path) -> None:
    """Writes a figure on white, whole or not at all."""
    with ink(), atomic_path(path) as staged:
        figure.savefig(staged, dpi=150, format="png", facecolor="white")


def new_figure(columns: int, height: float) -> Figure:
    """A figure wide enough for so many blocks; its height is in inches."""
    width = float(np.clip(1.7 + 0.38 * columns, _NARROWEST, _WIDEST))
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def block_axis(axes: Axes, blocks: Sequence[int], label: str = BLOCK) -> None:
    """Gives an axis the blocks' indices as ticks, and no frame."""
    axes.set_xlabel(label)
    if len(blocks) <= NUMBERED:
        axes.set_xticks(list(blocks))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """Puts a legend of what is drawn in some axes above a figure: bars first, row by row."""
    handles, labels = axes.get_legend_handles_labels()
    named = sorted(zip(handles, labels, strict=True), key=lambda pair: isinstance(pair[0], Line2D))
    # Matplotlib fills its columns one after the other.
    by_column = [pair for column in range(columns) for pair in named[column::columns]]
    figure.legend(
        *zip(*by_column, strict=True),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        columnspacing=1.2,
    )


def points(share: float) -> str:
    """A share of words in hundredths, as short as a cell wants it."""
    value = 100 * share
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return text.replace("-0.0", "0.0").replace("-", "\N{MINUS SIGN}")


def in_order(modules: Collection[str]) -> list[str]:
    """Modules, each once, as a block runs them."""
    rest = sorted(set(modules) - set(_MODULES))
    return [module for module in _MODULES if module in modules] + rest


def plain(module: str) -> str:
    """A module's name in words."""
    return module.replace("feed_forward", "feed-forward").replace("_", " ")


@dataclass(frozen=True)
class Shades:
    """How a heat map shows values.

    Args:
        colours: One of Matplotlib's maps, light for small values.
        label: What the values are, in a word or two.
        scale: From values to shades.
        cell: From a value to the text of its cell.
    """

    colours: str
    label: str
    scale: Normalize
    cell: Callable[[float], str]


def penalty_shades(values: NDArray[np.float64]) -> Shades:
    """For penalties: one shade at and below zero, and most of the shades for small ones."""
    highest = float(np.nanmax(values, initial=0))
    scale = PowerNorm(0.5, vmin=0, vmax=highest or 1.0, clip=True)
    return Shades("Oranges", "points", scale, points)


def heat_map(
    axes: Axes,
    values: NDArray[np.float64],
    rows: Sequence[str],
    blocks: Sequence[int],
    shades: Shades,
) -> None:
    """Draws a value for each of some rows and blocks.

    Up to `NUMBERED` blocks the cells hold numbers; of more, a bar tells what the shades are.

    Args:
        axes: Where.
        values: [R, L]; NaN is left empty.
        rows: Names of the rows, the first on top.
        blocks: Indices.
        shades: How.
    """
    colours = matplotlib.colormaps[shades.colours]
    mesh = axes.pcolormesh(values, norm=shades.scale, cmap=colours)
    every = math.ceil(len(rows) / NUMBERED)
    axes.set_yticks(np.arange(len(rows))[::every] + 0.5, rows[::every])
    axes.invert_yaxis()
    axes.set_xlabel(BLOCK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    step = math.ceil(len(blocks) / NUMBERED)
    axes.set_xticks(np.arange(len(blocks))[::step] + 0.5, [str(b) for b in blocks[::step]])
    if step == 1:
        _number_cells(axes, values, colours, shades)
        return
    marks = np.asarray(shades.scale.inverse(np.linspace(0, 1, 4)))
    bar = axes.figure.colorbar(mesh, ax=axes, label=shades.label, ticks=marks)
    bar.set_ticklabels([shades.cell(float(mark)) for mark in marks])
    bar.outline.set_visible(False)


def _number_cells(
    axes: Axes, values: NDArray[np.float64], colours: Colormap, shades: Shades
) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        red, green, blue, _ = colours(float(np.asarray(shades.scale(float(value)))))
        # ITU-R BT.601's weights of how bright a colour looks.
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(
            column + 0.5,
            row + 0.5,
            shades.cell(float(value)),
            ha="center",
            va="center",
            fontsize=7.5,
            color="#ffffff" if dark else "#111111",
        )
