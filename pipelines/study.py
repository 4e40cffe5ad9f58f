"""`tfasr study`: a run to the ranking of its blocks."""

import csv
import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import read_json, write_json, write_text
from tfasr.configs.study import StudyConfig
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.models.layout import weights_hash
from tfasr.study.figures import draw_blocks
from tfasr.study.ranking import Ranking
from tfasr.study.reset import BlockErrors, ResetStudy, study_block
from tfasr.study.scores import by_penalty, score_block
from tfasr.training.run import Run


class _Results:
    """Errors of each block, kept in one file so that an interrupted study goes on.

    Args:
        path: The file.
        settings: What the errors depend on; those of other settings are thrown away.
    """

    def __init__(self, run: Run, settings: dict[str, object]) -> None:
        self.path = run.folder / "study" / "errors.json"
        kept = read_json(self.path) if self.path.is_file() else {}
        self.values = kept if kept.get("settings") == settings else {"settings": settings}

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __getitem__(self, name: str) -> NDArray[np.int64]:
        return np.array(self.values[name])

    def add(self, **errors: NDArray[np.int64]) -> None:
        self.values |= {name: value.tolist() for name, value in errors.items()}
        write_json(self.path, self.values)


def run(config: StudyConfig) -> None:
    """Studies every block, or goes on where it was interrupted."""
    folder, data = Run(config.run), PreparedData(config.data)
    folder.check_data(data)
    step = config.step or folder.checkpoints.best_step()
    model = folder.trained_model(config.step)
    domains = config.domains or data.domains_to_train_on(())
    batches = evaluation_batches(
        data.source(config.split),
        data.durations(config.split, domains),
        domains=domains,
        extractor=folder.extractor,
    )
    study = ResetStudy(model, folder.tokenizer.pieces, folder.config.seed, batches)
    rows = [row for row in data.manifest(config.split) if row["domain"] in domains]
    model_hash = weights_hash(study.layout)
    heard = "\n".join(f"{row['id']}\t{row['text']}" for row in rows)
    data_hash = hashlib.sha256(heard.encode()).hexdigest()
    settings: dict[str, object] = {"model": model_hash, "data": data_hash, "draws": config.draws}
    results = _evaluate_blocks(study, config, _Results(folder, settings))
    words = study.words()
    scores = [
        score_block(block, errors, results["intact"], words)
        for block, errors in enumerate(_block_errors(results, study.layout.num_blocks))
    ]
    ranking = Ranking(
        blocks=by_penalty(scores),
        baseline_wer=float(results["intact"].sum() / words.sum()),
        method="rerandomise",
        seeds=tuple(range(1, config.draws + 1)),
        utterances=len(words),
        words=int(words.sum()),
        command=f"tfasr study --run {config.run} --data {config.data} --split {config.split}",
        step=step,
        model_hash=model_hash,
        data_hash=data_hash,
    )
    out = config.run / "study"
    ranking.write(out / "ranking.json")
    write_text(out / "blocks.csv", _csv(ranking))
    draw_blocks(ranking, config.margin, out / "blocks.png")
    Console().print(_table(ranking, config.margin))
    print(f"written to {out}: ranking.json, blocks.csv, blocks.png")


def _evaluate_blocks(study: ResetStudy, config: StudyConfig, results: _Results) -> _Results:
    line = ProgressLine("study")
    if "intact" not in results:
        results.add(intact=study.intact_errors())
    for block in range(study.layout.num_blocks):
        if f"rerandomised_{block}" not in results:
            errors = study_block(study, block, config.draws)
            results.add(
                **{
                    f"reinitialised_{block}": errors.reinitialised,
                    f"rerandomised_{block}": errors.rerandomised,
                }
            )
        line(block + 1, study.layout.num_blocks)
    return results


def _block_errors(results: _Results, num_blocks: int) -> list[BlockErrors]:
    return [
        BlockErrors(results[f"reinitialised_{block}"], results[f"rerandomised_{block}"])
        for block in range(num_blocks)
    ]


def _csv(ranking: Ranking) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["block", "wer", "penalty", "low", "high", "reinitialised_wer"])
    for score in ranking.blocks:
        figures = [score.wer, score.penalty, *score.interval, score.reinitialised_wer]
        writer.writerow([score.block, *(f"{figure:.6f}" for figure in figures)])
    return text.getvalue()


def _table(ranking: Ranking, margin: float) -> Table:
    table = Table(
        "block",
        "word error rate",
        "penalty (95 %)",
        "weights of step 0",
        "",
        title=f"one block reset, most ambient first; intact {100 * ranking.baseline_wer:.2f} %",
    )
    for score in ranking.blocks:
        low, high = (100 * end for end in score.interval)
        table.add_row(
            str(score.block),
            f"{100 * score.wer:.2f} %",
            f"{100 * score.penalty:+.2f} ({low:+.2f} to {high:+.2f})",
            f"{100 * score.reinitialised_wer:.2f} %",
            "ambient" if score.interval[1] < margin else "critical",
        )
    return table
