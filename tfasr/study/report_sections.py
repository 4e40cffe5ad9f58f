"""The sections of a study's report about resets: blocks, modules and sets of blocks."""

from collections.abc import Sequence

from tfasr.artifacts.html import Html, drawing, element, join, table
from tfasr.preparation.report_sections import NOTHING, heading, share
from tfasr.study.drawing import plain
from tfasr.study.figures import draw_blocks, draw_cumulative, draw_modules, draw_pairs
from tfasr.study.ranking import Ranking, Score
from tfasr.study.scores import words_to_decide

# Of a parameter as it is trained and sent.
BYTES = 4
# Pairs that are listed.
_PAIRS = 8
_SHADES = (
    "Numbers are points of word error rate; the darker the cell, the less the model can do "
    "without this part. Shades are finer among small numbers than among large ones."
)


def blocks_section(ranking: Ranking, margin: float, parameters: Sequence[int]) -> Html:
    """Each block alone."""
    title = heading("Each block by itself", "blocks")
    if not is_measured(ranking):
        said = f"The value of {plain(ranking.method)} in each block, as the method gives it."
        figure = drawing(draw_blocks(ranking, margin), "The signal of each block", said)
        rows = [[score.name, f"{score.penalty:.4g}"] for score in ranking.blocks]
        return join(title, figure, table(["block", plain(ranking.method)], rows, "rr"), csv_link())
    caption = (
        f"Each bar is the word error rate with one block {reset_words(ranking)}; the thin line on "
        "it is the 95 % interval. A bar near the dashed line is a block that the model hardly "
        "misses; a high one is a block that it needs. Where there are two panels, the lower one "
        "enlarges what is near the margin."
    )
    if ranking.method == "rerandomise":
        caption += " Diamonds are the same with the block's weights from before training."
    figure = drawing(draw_blocks(ranking, margin), "Word error rate with each block reset", caption)
    header = [
        "block", "verdict", "error rate", "rise", "95 % interval", "first weights",
        "words needed", "parameters",
    ]  # fmt: skip
    rows = [
        [
            score.name,
            score.verdict(margin),
            rate(ranking.baseline_wer + score.penalty),
            *rise(score),
            NOTHING if score.reinitialised_wer is None else rate(score.reinitialised_wer),
            _needed(score, margin, ranking.words),
            f"{parameters[score.blocks[0]]:,}",
        ]
        for score in ranking.blocks
    ]
    said = (
        "The most ambient come first. Rises and their intervals are in points; the words needed "
        "are those at which an undecided block's interval would leave the margin, if its rise "
        "stayed as it is."
    )
    listed = table(header, rows, "rlrrrrrr")
    return join(title, figure, element("p", said), listed, csv_link())


def _needed(score: Score, margin: float, words: int) -> str:
    if score.verdict(margin) != "undecided":
        return NOTHING
    needed = words_to_decide(score, margin, words)
    return roughly(needed) if needed else "no number"


def savings_section(ranking: Ranking, margin: float, parameters: Sequence[int], total: int) -> Html:
    """What the ambient blocks hold."""
    if not is_measured(ranking) or not ranking.ambient(margin):
        return join()
    groups = [("ambient, each by itself", ranking.ambient(margin))]
    together = ranking.ambient_together(margin)
    if together:
        groups.append(("ambient even all at once", ranking.cumulative[together - 1].blocks))
    rows = []
    for name, blocks in groups:
        held = sum(parameters[block] for block in blocks)
        of_blocks, of_model = share(held, sum(parameters)), share(held, total)
        size = in_bytes(BYTES * held)
        rows.append([name, f"{len(blocks):,}", f"{held:,}", of_blocks, of_model, size])
    header = ["", "blocks", "parameters", "of all blocks", "of the model", "as 32-bit floats"]
    said = (
        "A block that may as well be random need be neither trained nor sent nor stored: its "
        "random weights can be made again from their seed, a single number. Frozen so, the blocks "
        "save what the table says in every copy of the model that is sent, and as much again in "
        "every update that is sent back."
    )
    warned = (
        "A model from which they are dropped altogether is smaller by the same numbers, and "
        "faster; this study gave blocks random weights and left none out, so try that before you "
        "rely on it."
    )
    alone = (
        ""
        if ranking.cumulative
        else " Each verdict is of one block alone: what several cost together was not studied."
    )
    return join(
        heading("What the ambient blocks save", "savings"),
        element("p", said),
        table(header, rows, "lrrrrr"),
        element("p", warned + alone),
    )


def modules_section(ranking: Ranking, margin: float) -> Html:
    """Each module of each block."""
    if not ranking.modules:
        return join()
    said = (
        "A block is made of modules, such as attention, which relates near and far parts of an "
        "utterance to one another, and convolution, which looks at its nearest neighbourhood. Here "
        "one module of one block was reset at a time."
    )
    caption = (
        f"Rise of the word error rate with one module of one block reset. {_SHADES} The last row "
        "is the whole block."
    )
    rows = [
        [str(score.blocks[0]), plain(score.module), score.verdict(margin), *rise(score)]
        for score in ranking.modules
    ]
    header = ["block", "module", "verdict", "rise, points", "95 % interval"]
    listed = folded(f"All {len(rows):,} modules, the most ambient first", header, rows, "rllrr")
    return join(
        heading("Modules of the blocks", "modules"),
        element("p", said),
        drawing(draw_modules(ranking), "Penalty of each module of each block", caption),
        listed,
        csv_link("modules"),
    )


def cumulative_section(ranking: Ranking, margin: float, parameters: Sequence[int]) -> Html:
    """The most ambient blocks together."""
    if not ranking.cumulative:
        return join()
    together = ranking.ambient_together(margin)
    said = (
        "Blocks that the model can do without one at a time may stand in for one another. So the "
        "most ambient one was reset, then the two most ambient together, and so on. "
    )
    said += (
        f"Up to {together} of them stay under the margin together, with all of the interval."
        if together
        else "Not even the first stays under the margin with all of its interval."
    )
    caption = (
        "From left to right, more and more blocks are reset together; each point is the word error "
        "rate, the thin line on it its 95 % interval. As long as the intervals stay under the "
        "dotted line, the blocks can go together."
    )
    rows, before = [], set[int]()
    for score in ranking.cumulative:
        added = ", ".join(str(block) for block in score.blocks if block not in before)
        before = set(score.blocks)
        held = sum(parameters[block] for block in score.blocks)
        wer = rate(ranking.baseline_wer + score.penalty)
        verdict = score.verdict(margin)
        rows.append([f"{len(before)}", added, verdict, wer, *rise(score), f"{held:,}"])
    header = [
        "blocks", "the last added", "verdict", "error rate", "rise, points", "95 % interval",
        "parameters",
    ]  # fmt: skip
    title = "Word error rate with the most ambient blocks reset together"
    return join(
        heading("The most ambient together", "cumulative"),
        element("p", said),
        drawing(draw_cumulative(ranking, margin), title, caption),
        table(header, rows, "rrlrrrr"),
        csv_link("cumulative"),
    )


def pairs_section(ranking: Ranking) -> Html:
    """Two blocks together."""
    if not ranking.pairs:
        return join()
    caption = (
        f"Rise of the word error rate with two blocks reset together: one names the column, the "
        f"other the row; on the diagonal, one block alone. {_SHADES}"
    )
    alone = ranking.penalties()
    apart = {pair.blocks: sum(alone[block] for block in pair.blocks) for pair in ranking.pairs}
    worse = [pair for pair in ranking.pairs if pair.penalty > apart[pair.blocks]]
    worse.sort(key=lambda pair: apart[pair.blocks] - pair.penalty)
    rows = []
    for pair in worse[:_PAIRS]:
        sums = apart[pair.blocks]
        rows.append([pair.name, *map(_signed, (pair.penalty, sums, pair.penalty - sums))])
    header = ["blocks", "together, points", "sum of each alone", "difference"]
    said = (
        "Two blocks that cost more together than the sum of each alone may stand in for one "
        "another. "
    )
    said += "These do so most:" if rows else "No two blocks do."
    return join(
        heading("Pairs of blocks", "pairs"),
        drawing(draw_pairs(ranking), "Penalty of each pair of blocks", caption),
        element("p", said),
        table(header, rows, "lrrr") if rows else join(),
        csv_link("pairs"),
    )


def is_measured(ranking: Ranking) -> bool:
    """Whether penalties come from resets, and have intervals."""
    return all(score.interval is not None for score in ranking.blocks)


def reset_words(ranking: Ranking) -> str:
    """What was done to the weights."""
    if ranking.method == "reinitialise":
        return "put back to its weights from before training"
    draws = len(ranking.seeds)
    times = "" if draws == 1 else f" (the mean of {draws} draws)"
    return f"given fresh random weights{times}"


def csv_link(name: str = "blocks") -> Html:
    """Where the numbers stand as a file."""
    link = element("a", f"{name}.csv", href=f"{name}.csv")
    return element("p", join("The same numbers as a file: ", link, "."), class_="soft")


def folded(summary: str, header: Sequence[str], rows: list[list[str]], align: str) -> Html:
    """A long table, shown when it is asked for."""
    return element("details", element("summary", summary), table(header, rows, align))


def rate(wer: float) -> str:
    """A word error rate."""
    return f"{100 * wer:.2f} %"


def rise(score: Score) -> list[str]:
    """A penalty and its interval, in points."""
    if score.interval is None:
        return [_signed(score.penalty), NOTHING]
    low, high = map(_signed, score.interval)
    return [_signed(score.penalty), f"{low} to {high}"]


def _signed(points: float) -> str:
    return f"{100 * points:+.2f}".replace("-", "\N{MINUS SIGN}")


def roughly(number: int) -> str:
    """A number of two digits and zeros, rounded up."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // unit) * unit:,}"


def in_bytes(size: int) -> str:
    """A size in the unit that suits it."""
    unit, divisor = ("MB", 1e6) if size >= 1e6 else ("kB", 1e3)
    return f"{size / divisor:,.1f} {unit}"
