"""`tfasr quickstart`: all stages on synthetic speech, and a table of what came out."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tfasr.artifacts.files import read_json, read_json_lines, write_text
from tfasr.configs.quickstart import QuickstartConfig
from tfasr.serving.client import transcribe_url
from tfasr.study.ranking import Ranking

_URL = re.compile(r"http://\S+/v1/models/[\w.-]+")


@dataclass(frozen=True)
class _Step:
    """One stage of the flow: its command and the file that its end leaves."""

    title: str
    arguments: list[str]
    result: Path


class _Folders:
    """Where the stages write."""

    def __init__(self, work: Path) -> None:
        self.data = work / "data"
        self.central = work / "central"
        self.adapted = work / "adapted"
        self.model = work / "saved_models" / "quickstart"
        self.evaluations = work / "evaluations"

    def evaluation(self, name: str) -> Path:
        return self.evaluations / name


def run(config: QuickstartConfig) -> None:
    """Runs the stages that are not finished, asks the served model once, prints the table."""
    started = time.monotonic()
    folders = _Folders(config.work)
    steps = _steps(config, folders)
    for number, step in enumerate(steps, start=1):
        done = step.result.is_file()
        print(f"\n[{number}/{len(steps)}] {step.title}{': already there' if done else ''}")
        if not done:
            _run_stage(step.arguments)
    print("\nserving the exported model for one request")
    row, text = _ask_server(config, folders)
    table = _table(folders, row, text)
    console = Console(record=True, width=100)
    console.print(table)
    write_text(config.work / "table.txt", console.export_text())
    print(f"everything is in {config.work}; this took {_minutes(time.monotonic() - started)}")


def _steps(config: QuickstartConfig, folders: _Folders) -> list[_Step]:
    preset = ["--config", config.preset]
    data = ["--data", str(folders.data)]
    central = ["--run", str(folders.central)]
    ranking = folders.central / "study" / "ranking.json"

    def evaluation(title: str, name: str, *arguments: str) -> _Step:
        out = folders.evaluation(name)
        command = ["evaluate", *data, "--split", "test", *arguments, "--out", str(out)]
        return _Step(title, command, out / "evaluation.json")

    telephone = ["--domains", "telephone"]
    adapted = ["--run", str(folders.adapted)]
    out = ["--out", str(folders.model)]
    return [
        _Step(
            "synthetic speech in two domains",
            ["prepare", *preset, "--out", str(folders.data)],
            folders.data / "data.json",
        ),
        _Step(
            "train centrally, without the telephone",
            ["train", *preset, *data, *central],
            folders.central / "finished.json",
        ),
        evaluation(
            "how well it hears the close microphone", "close", *central, "--domains", "close"
        ),
        evaluation("how well it hears the telephone", "before", *central, *telephone),
        _Step(
            "which blocks matter",
            ["study", *preset, *data, *central],
            ranking,
        ),
        _Step(
            "adapt on telephone speakers, with smaller client models",
            ["federate", *preset, *data, *central, "--out", str(folders.adapted)],
            folders.adapted / "finished.json",
        ),
        evaluation("how well it hears the telephone now", "after", *adapted, *telephone),
        _Step(
            "export, with the most ambient blocks frozen",
            ["export", *preset, *adapted, "--freeze.ranking", str(ranking), *out],
            folders.model / "1" / "export.json",
        ),
        evaluation(
            "how well the exported model hears the telephone",
            "exported",
            "--model",
            str(folders.model),
            *telephone,
        ),
    ]


def _run_stage(arguments: list[str]) -> None:
    print(f"$ tfasr {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise ValueError(
            f"the stage `tfasr {arguments[0]}` failed, for the reason above; "
            "the same command goes on from there"
        )


def _ask_server(config: QuickstartConfig, folders: _Folders) -> tuple[dict[str, Any], str]:
    rows = read_json_lines(folders.data / "test.jsonl")
    row = next(row for row in rows if row["domain"] == "telephone")
    arguments = ["serve", "--model", str(folders.model), "--port", str(config.port)]
    print(f"$ tfasr {' '.join(arguments)}", flush=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        url = next((found[0] for line in server.stdout or () if (found := _URL.search(line))), None)
        if url is None:
            raise ValueError("the server ended before it answered, for the reason above")
        (text,) = transcribe_url(url, [(folders.data / row["audio_filepath"]).read_bytes()])
    finally:
        server.terminate()
        server.wait()
    return row, text


def _table(folders: _Folders, row: dict[str, Any], text: str) -> Table:
    ranking = Ranking.read(folders.central / "study" / "ranking.json")
    rounds = [r for r in read_json_lines(folders.adapted / "rounds.jsonl") if r["round"] > 0]
    exported = read_json(folders.model / "1" / "export.json")
    table = Table("what", "came out", title="quickstart", show_lines=True)
    table.add_row(
        "word error rate after central training, close microphone", _rate(folders, "close")
    )
    table.add_row(
        "three most ambient blocks, error rate when reset",
        _blocks(ranking, ranking.most_ambient(3)),
    )
    table.add_row(
        "three most critical blocks, error rate when reset",
        _blocks(ranking, ranking.most_critical(3)),
    )
    last = rounds[-1]
    table.add_row(
        f"federated, {len(rounds)} rounds of {len(last['clients'])} clients: parameters dropped",
        f"{last['dropped']:,} of {last['parameters_full']:,} "
        f"({100 * last['dropped'] / last['parameters_full']:.1f} %)",
    )
    table.add_row(
        "bytes sent to and by one client in one round",
        f"{last['bytes_down']:,} down, {last['bytes_up']:,} up",
    )
    table.add_row("word error rate on the telephone before", _rate(folders, "before"))
    table.add_row("word error rate on the telephone after", _rate(folders, "after"))
    table.add_row(
        "exported model",
        f"{exported['bytes'] / 1e6:.2f} MB, blocks {exported['frozen']['blocks']} frozen",
    )
    table.add_row("its word error rate on the telephone", _rate(folders, "exported"))
    table.add_row("one utterance sent to the server", f"said: {row['text']}\nheard: {text}")
    return table


def _rate(folders: _Folders, name: str) -> str:
    values = read_json(folders.evaluation(name) / "evaluation.json")
    low, high = values["wer_interval"]
    return f"{100 * values['wer']:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def _blocks(ranking: Ranking, blocks: tuple[int, ...]) -> str:
    rates = {block: ranking.baseline_wer + p for block, p in ranking.penalties().items()}
    return ", ".join(f"{block}: {100 * rates[block]:.2f} %" for block in blocks)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
