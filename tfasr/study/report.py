"""The report page of a study, for readers who do not know what it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfasr.artifacts.files import write_text
from tfasr.artifacts.html import Html, element, join, page, table
from tfasr.models.churn import Churn
from tfasr.preparation.report_sections import heading, several, share
from tfasr.study.comparison import Studied
from tfasr.study.drawing import plain
from tfasr.study.ranking import Ranking, Verdict
from tfasr.study.report_comparisons import (
    churn_section,
    families_section,
    signals_section,
    training_section,
)
from tfasr.study.report_sections import (
    BYTES,
    blocks_section,
    cumulative_section,
    in_bytes,
    is_measured,
    modules_section,
    pairs_section,
    rate,
    rise,
    roughly,
    savings_section,
)
from tfasr.study.report_tables import (
    Row,
    churn_rows,
    cumulative_rows,
    family_rows,
    score_rows,
    signal_rows,
    training_rows,
    write_csv,
)
from tfasr.study.scores import words_to_decide
from tfasr.study.signals import Signal


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that a page tells of.

    Args:
        ranking: Of the model.
        margin: Largest penalty of an ambient block, as a share of words.
        block_parameters: Of each block, the lowest first.
        total_parameters: Of the whole model.
        over_training: Rankings of the run's checkpoints, by step.
        churn: Of checkpoints.
        signals: Of the model.
        others: Runs to compare, this one among them where it is to be shown.
        command: What made the study.

    Raises:
        ValueError: The ranking is of other blocks than those whose parameters are given.
    """

    ranking: Ranking
    margin: float
    block_parameters: tuple[int, ...]
    total_parameters: int
    over_training: Mapping[int, Ranking] = field(default_factory=dict)
    churn: Sequence[Churn] = ()
    signals: Sequence[Signal] = ()
    others: Sequence[Studied] = ()
    command: str

    def __post_init__(self) -> None:
        ranked = list(self.ranking.penalties())
        if ranked != list(range(len(self.block_parameters))):
            raise ValueError(
                "block_parameters must have a number for each block; "
                f"got {len(self.block_parameters)} numbers, blocks {ranked}"
            )


def write_report(path: Path, study: Study) -> tuple[Path, ...]:
    """Writes a study as one page that loads nothing, and its tables beside it.

    Args:
        path: The page, such as `RUN/study/report.html`.
        study: What was found.

    Returns:
        What was written, each file whole or not at all; the page first.

    Raises:
        ValueError: Rankings, churn or signals do not fit one another.
    """
    ranking, margin, held = study.ranking, study.margin, study.block_parameters
    body = [
        _opening(study),
        blocks_section(ranking, margin, held),
        savings_section(ranking, margin, held, study.total_parameters),
        cumulative_section(ranking, margin, held),
        modules_section(ranking, margin),
        pairs_section(ranking),
        training_section(study.over_training, margin),
        families_section(study.others, margin),
        churn_section(study.churn, ranking),
        signals_section(study.signals, ranking),
        _making_section(study),
    ]
    write_text(path, page("Which blocks matter", *body))
    written = [path]
    for name, rows in _tables(study).items():
        if rows:
            written.append(path.with_name(f"{name}.csv"))
            write_csv(written[-1], rows)
    return tuple(written)


def _tables(study: Study) -> dict[str, list[Row]]:
    ranking, margin = study.ranking, study.margin
    blocks = score_rows(ranking.blocks, ranking, margin)
    for row, score in zip(blocks, ranking.blocks, strict=True):
        row["parameters"] = study.block_parameters[score.blocks[0]]
    return {
        "blocks": blocks,
        "modules": score_rows(ranking.modules, ranking, margin),
        "cumulative": cumulative_rows(ranking, margin),
        "pairs": score_rows(ranking.pairs, ranking, margin),
        "over_training": training_rows(study.over_training, margin),
        "families": family_rows(study.others, margin),
        "churn": churn_rows(study.churn),
        "signals": signal_rows(study.signals, ranking),
    }


def _opening(study: Study) -> Html:
    ranking = study.ranking
    heard = f"{several(ranking.utterances, 'utterance')}, {several(ranking.words, 'word')}"
    measured = is_measured(ranking)
    return join(
        element("p", f"Layer study, checkpoint of step {ranking.step:,}, {heard}", class_="soft"),
        element("h1", "Which blocks of this model matter"),
        *(element("p", text) for text in (_done(study) if measured else _signalled(study))),
        element("ul", *(element("li", one) for one in _findings(study)), class_="findings")
        if measured
        else join(),
    )


def _done(study: Study) -> list[str]:
    """What was done, to whom has not read of it."""
    ranking = study.ranking
    draws = len(ranking.seeds)
    lost = "its trained weights were replaced by random ones"
    lost += f", drawn anew {draws} times" if draws > 1 else ""
    if ranking.method == "reinitialise":
        lost = "its weights were put back to what they were before training"
    points = f"{100 * study.margin:g} points ({_of_hundred(study.margin)})"
    deaf = (
        "Where so much is wrong already, no reset can do harm: train the model longer before you "
        "rely on anything on this page."
    )
    return [
        f"This speech-recognition model passes what it hears through {len(ranking.blocks)} blocks, "
        "one after the other. To find out which of them it relies on, each in turn lost what it "
        f"had learned: {lost}, and the rest of the model stayed as it was. Each time, the model "
        f"transcribed the same {several(ranking.utterances, 'utterance')} of "
        f"{several(ranking.words, 'word')}.",
        f"Intact, it gets {rate(ranking.baseline_wer)} of the words wrong: its word error rate. "
        "The more that rate rises, the more the block matters.",
        f"The margin is a rise of {points}. A block is called ambient where the rise is under the "
        "margin with all of its 95 % interval, the range that other utterances of the same kind "
        "would most likely give; critical where all of the interval is at or over the margin; and "
        "undecided where the margin lies inside it: the words were too few to tell.",
        *([deaf] if ranking.is_deaf else []),
    ]


def _of_hundred(margin: float) -> str:
    return f"{100 * margin:g} more wrong words in a hundred"


def _signalled(study: Study) -> list[str]:
    ranking = study.ranking
    return [
        f"This speech-recognition model passes what it hears through {len(ranking.blocks)} blocks, "
        "one after the other. Some matter more than others. No block was reset to find out: they "
        f"were put in order by a cheaper signal, {plain(ranking.method)}, which is larger where a "
        "block is likely to matter more. It says nothing of how many errors a block is worth.",
        f"Most likely to be dispensable is block {ranking.blocks[0].name}, least likely block "
        f"{ranking.blocks[-1].name}.",
    ]


def _findings(study: Study) -> list[Html]:
    ranking, margin = study.ranking, study.margin
    found: dict[Verdict, list[int]] = {"ambient": [], "critical": [], "undecided": []}
    for block in sorted(ranking.blocks, key=lambda score: score.blocks):
        found[block.verdict(margin)].append(block.blocks[0])
    lines = []
    for verdict, blocks in found.items():
        named = f"block{'s' * (len(blocks) > 1)} {_listed(blocks)}" if blocks else "no block"
        count = f" ({len(blocks)} of {len(ranking.blocks)})" if blocks else ""
        more = _deciding(study) if verdict == "undecided" and blocks else ""
        lines.append(join(element("strong", verdict.capitalize()), f": {named}{count}.{more}"))
    if ranking.cumulative:
        lines.append(_said_together(study))
    elif found["ambient"]:
        link = element("a", "What they save", href="#savings")
        said = f"The ambient blocks hold {_saved(study, found['ambient'])}; what they cost all "
        lines.append(join(f"{said}at once was not studied. ", link))
    return lines


def _said_together(study: Study) -> Html:
    ranking, together = study.ranking, study.ranking.ambient_together(study.margin)
    link = element("a", "The most ambient together", href="#cumulative")
    if not together:
        said = "Not even the most ambient block stays under the margin with all of its interval. "
        return join(said, link)
    score = ranking.cumulative[together - 1]
    costs, interval = rise(score)
    which = f"the {together} most ambient blocks cost" if together > 1 else "one block costs"
    return join(
        f"Reset all at once, {which} {costs} points ({interval}), under the margin. Left random, "
        f"{_saved(study, score.blocks)} need be neither trained nor sent. ",
        link,
    )


def _saved(study: Study, blocks: Sequence[int]) -> str:
    held = sum(study.block_parameters[block] for block in blocks)
    part = share(held, study.total_parameters)
    return f"{held:,} parameters ({part} of the model, {in_bytes(BYTES * held)})"


def _deciding(study: Study) -> str:
    """How many words would decide the undecided."""
    ranking, margin = study.ranking, study.margin
    needed = {
        score.blocks[0]: words_to_decide(score, margin, ranking.words)
        for score in ranking.blocks
        if score.verdict(margin) == "undecided"
    }
    told = [f"{roughly(words)} for block {b}" for b, words in sorted(needed.items()) if words]
    never = [block for block, words in sorted(needed.items()) if not words]
    text = f" About so many words would decide: {', '.join(told)}." if told else ""
    if never:
        text += f" As block {_listed(never)} lies just on the margin, no number of words would."
    return text


def _listed(blocks: Sequence[int]) -> str:
    *most, last = map(str, blocks)
    return f"{', '.join(most)} and {last}" if most else last


def _making_section(study: Study) -> Html:
    ranking = study.ranking
    rows = [
        ["checkpoint", f"step {ranking.step:,}"],
        ["weights", ranking.model_hash],
        ["evaluated on", f"{several(ranking.utterances, 'utterance')}, {ranking.words:,} words"],
        ["hash of these", ranking.data_hash],
        ["method", plain(ranking.method)],
        ["statistics of batch normalisation, if any", ranking.statistics],
        ["seeds of the draws", ", ".join(map(str, ranking.seeds)) or "none"],
        ["margin", f"{100 * study.margin:g} points" if is_measured(ranking) else "none"],
        ["parameters", f"{study.total_parameters:,}, of them in blocks "
         f"{sum(study.block_parameters):,}"],
    ]  # fmt: skip
    source = (
        "Resets and churn as in the paper on ambient layers, sections 2.3, 2.4 and 3; intervals by "
        "paired bootstrap over utterances."
    )
    return join(
        heading("How this was made", "made"),
        element("pre", study.command),
        table(["", ""], rows, "lt"),
        element("p", source, class_="soft"),
    )
