"""`tfasr study`: a run to the ranking of its blocks."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.progress import ProgressLine
from tfasr.configs.study import StudyConfig
from tfasr.models.churn import Churn, measure_churn
from tfasr.models.layout import Layout
from tfasr.study.comparison import Studied, families
from tfasr.study.ranking import Ranking, Score
from tfasr.study.report import Study, write_report
from tfasr.study.resets import Reset, each_block, each_module, each_pair, growing_sets
from tfasr.study.scores import by_penalty, require_words, score_reset, words_to_decide
from tfasr.study.signals import SIGNALS, Given, Signal
from tfasr.study.subject import Subject
from tfasr.study.workers import evaluate_in_processes
from tfasr.training.run import Run


def run(config: StudyConfig) -> None:
    """Studies the parts of a model, or goes on where it was interrupted."""
    others = [Studied.read(folder) for folder in config.beside]
    # What can't be compared is refused before hours of work, not after them.
    families(others)
    subject = Subject(config, config.step, config.seeds)
    if not config.ranks_by_signal:
        require_words(subject.words, config.margin)
    names = tuple(SIGNALS) if config.signals else ()
    signals = _signals(subject, (config.method,) if config.ranks_by_signal else names)
    if config.ranks_by_signal:
        ranking = _ranking(subject, blocks=_by_signal(signals[0]))
    else:
        ranking = _by_resets(subject)
    out = config.folder
    study = Study(
        ranking=ranking,
        margin=config.margin,
        block_parameters=tuple(
            sum(entry.size for entry in subject.layout.of_block(block))
            for block in range(subject.layout.num_blocks)
        ),
        total_parameters=subject.layout.parameters(),
        over_training=_over_training(config),
        churn=_churn(config, subject),
        signals=() if config.ranks_by_signal else signals,
        others=[*others, Studied.of_run(subject.run, ranking)] if others else [],
        command=ranking.command,
    )
    # The ranking comes last: where it is, the report is too.
    write_report(out / "report.html", study)
    ranking.write(out / "ranking.json")
    _tell(ranking, config)
    print(f"written to {out}: ranking.json, report.html and its tables as CSV")


def _by_resets(subject: Subject) -> Ranking:
    config, layout = subject.config, subject.layout
    blocks = _scores(subject, "blocks", each_block(layout))
    found: dict[str, Any] = {"blocks": by_penalty(blocks)}
    if "modules" in config.what:
        found["modules"] = by_penalty(_scores(subject, "modules", each_module(layout)))
    if "cumulative" in config.what:
        order = [score.blocks[0] for score in found["blocks"]]
        found["cumulative"] = tuple(_scores(subject, "cumulative", growing_sets(order)))
    if "pairs" in config.what:
        found["pairs"] = by_penalty(_scores(subject, "pairs", each_pair(layout)))
    seconds = sum(subject.results[reset].seconds for reset in each_block(layout))
    return _ranking(subject, seconds, **found)


def _scores(subject: Subject, job: str, resets: Sequence[Reset]) -> list[Score]:
    """Tries resets, or reads what they came to, and scores them in their order."""
    line = ProgressLine(f"study {job}")
    if subject.config.jobs > 1:
        evaluate_in_processes(subject, resets, line)
    else:
        subject.evaluate(resets, line)
    intact, words = subject.results.intact()
    first = subject.config.method == "reinitialise"
    return [score_reset(reset, subject.results[reset], intact, words, first) for reset in resets]


def _ranking(subject: Subject, seconds: float = 0.0, **scores: tuple[Score, ...]) -> Ranking:
    config = subject.config
    subject.evaluate([], lambda done, total: None)
    intact, words = subject.results.intact()
    return Ranking(
        **scores,
        baseline_wer=float(intact.sum() / words.sum()),
        method=config.method,
        statistics=config.statistics,
        seeds=subject.seeds,
        seconds=seconds,
        step=subject.step,
        model_hash=subject.model_hash,
        data_hash=subject.data_hash,
        utterances=len(words),
        words=int(words.sum()),
        command=_command(config),
    )


def _command(config: StudyConfig) -> str:
    """What makes the same ranking and report: every setting that is not its default."""
    words = ["tfasr", "study"]
    for field in fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            several = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{field.name}", several.lower() if isinstance(value, bool) else several]
    return shlex.join(words)


def _by_signal(signal: Signal) -> tuple[Score, ...]:
    return by_penalty(
        Score(blocks=(block,), penalty=float(value)) for block, value in enumerate(signal.values)
    )


def _signals(subject: Subject, names: Sequence[str]) -> list[Signal]:
    run, line = subject.run.config, ProgressLine("study signals")
    # Decoded once, so that what a signal takes is its own.
    batches = cache(lambda: list(subject.batches()))

    def measured(name: str) -> Signal:
        layout = subject.layout
        return SIGNALS[name](Given(subject.model, layout, run.seed, batches(), run.objective))

    signals = []
    for name in names:
        signals.append(subject.results.signal(name, partial(measured, name)))
        line(len(signals), len(names))
    return signals


def _over_training(config: StudyConfig) -> Mapping[int, Ranking]:
    """Ranks the blocks at each kept checkpoint, by one draw."""
    if not config.over_training:
        return {}
    rankings = {}
    for step in Run(config.run).checkpoints.steps():
        subject = Subject(config, step, config.seeds[:1])
        scores = _scores(subject, f"step {step}", each_block(subject.layout))
        rankings[step] = _ranking(subject, blocks=by_penalty(scores))
    return rankings


def _churn(config: StudyConfig, subject: Subject) -> Sequence[Churn]:
    """Measures churn at each kept checkpoint, or of the model that is studied."""
    run = subject.run
    if not config.over_training:
        return [measure_churn(subject.layout, run.config.seed, subject.step)]
    return [
        measure_churn(Layout(run.trained_model(step)), run.config.seed, step)
        for step in run.checkpoints.steps()
    ]


def _tell(ranking: Ranking, config: StudyConfig) -> None:
    title = f"intact {100 * ranking.baseline_wer:.2f} %, {ranking.words} words"
    if config.ranks_by_signal:
        table = Table("block", config.method, title=f"by {config.method}, most ambient first")
        for score in ranking.blocks:
            table.add_row(score.name, f"{score.penalty:.4g}")
    else:
        table = _reset_table(ranking, config.margin, title)
    Console().print(table)
    if ranking.is_deaf:
        print(
            f"study: intact, the model gets {100 * ranking.baseline_wer:.0f} % of the words wrong, "
            "so no reset can harm it; train it longer before you rely on this ranking"
        )


def _reset_table(ranking: Ranking, margin: float, title: str) -> Table:
    table = Table(
        "block",
        "word error rate",
        "penalty (95 %)",
        "weights of step 0",
        "",
        title=f"one block reset, most ambient first; {title}",
    )
    for score in ranking.blocks:
        verdict: str = score.verdict(margin)
        if verdict == "undecided":
            needed = words_to_decide(score, margin, ranking.words)
            verdict += f"; about {needed:,} words would tell" if needed else ""
        low, high = (100 * end for end in score.interval or ())
        table.add_row(
            score.name,
            f"{100 * (ranking.baseline_wer + score.penalty):.2f} %",
            f"{100 * score.penalty:+.2f} ({low:+.2f} to {high:+.2f})",
            f"{100 * (score.reinitialised_wer or 0.0):.2f} %",
            verdict,
        )
    return table
