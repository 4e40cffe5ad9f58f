"""HTML that needs nothing else: escaped elements, tables, histograms, a page."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

# Matplotlib knows no `currentColor`: what is drawn in this colour takes the page's.
INK = "#010203"
# CSS pixels that a point of a drawing keeps on a narrow screen, where a wide one scrolls: a
# histogram fits a telephone.
_NARROWEST = 0.94
_COLOURS = ("#3b82d6", "#e08a1e", "#2fa36b")
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5d6b7a; --line: #d9e0e7;
  --page: #ffffff; --panel: #f5f7fa; --alert: #a34a00; --bar: #3b82d640; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #9aa7b5; --line: #36414d;
  --page: #14191f; --panel: #1d242c; --alert: #ffb066; --bar: #3b82d666; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p, ul { margin: .5rem 0; }
ul { padding-left: 1.2rem; }
a { color: inherit; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.findings { background: var(--panel); border-left: 4px solid var(--alert);
  padding: .6rem 1rem .6rem 2rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: normal; }
th { font-weight: 600; color: var(--soft); }
tbody th { font-weight: 400; color: var(--ink); }
.left { text-align: left; }
.right { text-align: right; white-space: nowrap; }
.text { text-align: left; min-width: 14rem; }
figure { margin: .8rem 0; }
figure svg { display: block; width: 100%; max-width: 42rem; height: auto; }
figure text { font-family: system-ui, sans-serif !important; }
pre { background: var(--panel); padding: .8rem; overflow-x: auto; font-size: .85rem; }
code { background: var(--panel); padding: 0 .25rem; border-radius: .2rem; }
summary { cursor: pointer; }
"""
_ALIGNED = {"l": "left", "r": "right", "t": "text"}


class Html(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Makes one element; children that are not `Html` and attributes are escaped.

    Args:
        tag: Its name.
        children: Its content.
        attributes: A trailing "_" is dropped, so that `class_` can be given.
    """
    names = "".join(
        f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items()
    )
    return Html(f"<{tag}{names}>{join(*children)}</{tag}>")


def join(*children: str) -> Html:
    """Puts markup and text behind one another; the text is escaped."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in children))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str, name: str = "") -> Html:
    """Makes a table that scrolls sideways where the screen is narrow.

    Args:
        header: Of its columns.
        rows: Their cells.
        align: A letter a column: "l" is left, "r" right, "t" running text.
        name: Its id, for links; "" gives it none.
    """
    if any(len(row) != len(align) for row in (header, *rows)):
        raise ValueError(f"rows must have one cell a letter of align; got align={align!r}")
    kinds = [_ALIGNED[letter] for letter in align]
    heads = [
        element("th", cell, class_=kind, scope="col")
        for cell, kind in zip(header, kinds, strict=True)
    ]
    lines = []
    for row in rows:
        first = element("th", row[0], class_=kinds[0], scope="row", dir="auto")
        cells = [
            element("td", cell, class_=kind, **({} if kind == "right" else {"dir": "auto"}))
            for cell, kind in zip(row[1:], kinds[1:], strict=True)
        ]
        lines.append(element("tr", first, *cells))
    head, body = element("thead", element("tr", *heads)), element("tbody", *lines)
    named = {"id": name} if name else {}
    return element("div", element("table", head, body), class_="scroll", **named)


def histogram(
    values: Mapping[str, ArrayLike],
    *,
    label: str,
    limits: Sequence[float],
    limits_label: str,
    title: str,
) -> Html:
    """Draws the shares of several groups in the same bins, as inline SVG.

    Args:
        values: Of each group, by its name; a group without values is left out.
        label: Of the values, with their unit.
        limits: Values to mark with a dashed line, where they are in the range.
        limits_label: What these are.
        title: What a screen reader says, and what keeps the drawing's names apart.
    """
    groups = {name: np.asarray(own, float) for name, own in values.items() if np.size(own)}
    if not groups:
        return element("p", "There is nothing to draw.", class_="soft")
    edges = _bin_edges(np.concatenate(list(groups.values())))
    beyond = int(sum((own > edges[-1]).sum() for own in groups.values()))
    colours = dict(zip(values, _COLOURS, strict=False))
    with ink():
        figure = Figure(figsize=(5.4, 2.6), layout="constrained", facecolor="none")
        axes = figure.subplots()
        for number, (name, own) in enumerate(groups.items()):
            counted = np.histogram(np.minimum(own, edges[-1]), edges)[0]
            shares, colour = 100 * counted / len(own), colours[name]
            axes.stairs(shares, edges, color=colour, linewidth=1.4, label=name)
            if number == 0:
                axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
        inside = [limit for limit in limits if edges[0] < limit < edges[-1]]
        for limit in inside:
            axes.axvline(limit, color=INK, linestyle="--", linewidth=0.8)
        if inside:
            axes.lines[-1].set_label(limits_label)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None), xlabel=label, ylabel="utterances, %")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=4, frameon=False, columnspacing=1.2)
    note = f" The last bin holds those beyond {edges[-1]:.1f} too: {beyond:,}." if beyond else ""
    return drawing(figure, title, f"{title}.{note}")


def _bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Up to 40 bins from zero on; a few values far beyond all others do not stretch them."""
    highest, most = float(values.max()), float(np.quantile(values, 0.995))
    last = highest if highest <= 1.5 * most else 1.1 * most
    return np.linspace(0, last or 1.0, int(np.clip(len(values) / 5, 8, 40)) + 1)


def ink() -> AbstractContextManager[None]:
    """Matplotlib's settings to make a figure in, whose text and lines take the page's colour."""
    named = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(named, INK)
    return matplotlib.rc_context({**settings, "font.size": 9.0, "axes.facecolor": "none"})


def drawing(figure: Figure, title: str, caption: str) -> Html:
    """Puts a figure into the page, as SVG.

    Args:
        figure: Made under `ink`, its face colour "none".
        title: What a screen reader says, and what keeps the drawing's names apart.
        caption: What stands under it.
    """
    file = io.StringIO()
    with ink(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(
            file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = file.getvalue()
    svg = svg[svg.index("<svg ") :].replace(INK, "currentColor")
    # Every figure of Matplotlib's names its groups alike, and a page wants each name once.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    width = _NARROWEST * 72 * float(figure.get_figwidth())
    said = f'role="img" aria-label="{html.escape(title)}" style="min-width:{width:.0f}px"'
    scrolls = element("div", Html(svg.replace("<svg ", f"<svg {said} ", 1)), class_="scroll")
    return element("figure", scrolls, element("figcaption", caption))


def page(title: str, *body: Html) -> str:
    """Makes a whole page that loads nothing."""
    head = join(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Html(_STYLE)),
    )
    content = element("html", element("head", head), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{content}\n"
