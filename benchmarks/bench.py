"""Runs the benchmarks, keeps what they came to, and says what became slower.

A benchmark takes part by a table `BETTER` that says of its figures whether more or less of them is
better; they are ratios measured within one run wherever they can be. Each is run several times, and
the median and the range go to `benchmarks/results/DATE.json`, with the machine, the versions and
each one's commit, and as a table to `DATE.md` beside it; what was run before on that date stays
there. `--check` compares the newest results with the last that were committed, and ends with
status 1 where a figure became more than a tenth worse.
`python -m benchmarks.bench [--only attention,ctc] [--repeats 3] [--date DATE] | --check`
"""

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tfasr.artifacts.files import read_json, write_json, write_text

_RESULTS = Path("benchmarks/results")
_PACKAGES = ("tensorflow", "keras", "tensorflow-federated", "numpy")
_WORSE = 0.1  # Share by which a figure may become worse unnamed.

Figure = dict[str, Any]


def main() -> None:
    """Runs the benchmarks and prints the table, or compares two results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = declared(Path(__file__).parent)
    parser.add_argument("--only", default=",".join(known), help="names, by commas")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    parser.add_argument("--date", default=today, help="results to add to, where not today's")
    parser.add_argument("--check", action="store_true", help="compare with the last committed")
    arguments = parser.parse_args()
    if arguments.check:
        _check()
        return
    names = arguments.only.split(",")
    unknown = set(names) - known.keys()
    if unknown:
        parser.error(f"--only must be of {', '.join(known)}; got {', '.join(sorted(unknown))}")
    path = _RESULTS / f"{arguments.date}.json"
    results = read_json(path) if path.is_file() else _circumstances(arguments.date)
    for name in names:
        rows = [_figures(name) for _ in range(arguments.repeats)]
        results["figures"][name] = summary(rows, known[name])
        results["commits"][name] = _git("rev-parse", "--short", "HEAD")
        # One at a time: they may take hours together.
        write_json(path, results)
        write_text(path.with_suffix(".md"), markdown(results))
    _tell(results["figures"])
    print(f"written to {path}")


def declared(folder: Path) -> dict[str, dict[str, str]]:
    """Reads which figures each benchmark of a folder declares, without importing it.

    Returns:
        "higher" or "lower", whichever is better, by figure, by benchmark.

    Raises:
        ValueError: A table says something else of a figure.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BETTER":
                table: dict[str, str] = ast.literal_eval(node.value)
                wrong = sorted(set(table.values()) - {"higher", "lower"})
                if wrong:
                    raise ValueError(f"{path}: BETTER must say higher or lower; got {wrong[0]}")
                found[path.stem] = table
    return found


def summary(rows: Sequence[Mapping[str, Any]], better: Mapping[str, str]) -> dict[str, Figure]:
    """Takes the median and the range over several runs of what a benchmark declares.

    A figure that no run came to, such as that of a peer that can't be installed, is null.
    """
    figures = {}
    for key, direction in better.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        figures[key] = {
            "median": median(values) if values else None,
            "least": min(values, default=None),
            "most": max(values, default=None),
            "better": direction,
        }
    return figures


def markdown(results: Mapping[str, Any]) -> str:
    """Writes results as a document of Markdown: the circumstances, and a table of all figures.

    A figure that no run came to has a dash.
    """
    machine, versions = results["machine"], results["versions"]
    lines = [
        f"# {results['date']}",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gigabytes']} GB; "
        + ", ".join(f"{name} {number}" for name, number in versions.items()),
        "",
        "| benchmark | figure | median | least | most | better | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in results["figures"].items():
        for key, row in rows.items():
            numbers = _numbers(row, absent="-")
            cells = [name, f"`{key}`", *numbers, row["better"], results["commits"][name]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def worsened(
    before: Mapping[str, Mapping[str, Figure]], now: Mapping[str, Mapping[str, Figure]]
) -> list[str]:
    """Names figures of both results that became more than a tenth worse."""
    found = []
    for name, figures in now.items():
        for key, figure in figures.items():
            was, is_now = before.get(name, {}).get(key, {}).get("median"), figure["median"]
            if was is None or is_now is None:
                continue
            # An overhead may be below zero.
            worse = is_now > was + _WORSE * abs(was)
            if figure["better"] == "higher":
                worse = was > is_now + _WORSE * abs(is_now)
            if worse:
                found.append(f"{name} {key}: {was:.3g} became {is_now:.3g}")
    return found


def _figures(name: str) -> dict[str, Any]:
    print(f"{name} ...", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    last = ""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        # Its table, line by line as it comes; the figures behind it are for the results.
        for line in running.stdout or ():
            print(last, end="", flush=True)
            last = line
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {running.returncode}")
    figures: dict[str, Any] = json.loads(last)
    return figures


def _circumstances(date: str) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1] for line in lines if line.startswith("model name")), "")
    return {
        "date": date,
        "machine": {
            "processor": model.strip() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gigabytes": round(memory / 1e9, 1),
        },
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "commits": {},
        "figures": {},
    }


def _check() -> None:
    newest = max(_RESULTS.glob("*.json"), default=None)
    before = None if newest is None else _last_committed(newest)
    if newest is None or before is None:
        raise SystemExit(f"{_RESULTS}: must hold other results than committed; run `make bench`")
    lines = worsened(before["figures"], read_json(newest)["figures"])
    print("\n".join(lines) or f"{newest.name}: nothing is a tenth worse than on {before['date']}")
    raise SystemExit(1 if lines else 0)


def _last_committed(newest: Path) -> dict[str, Any] | None:
    """Reads the results that were committed before those of a file, in it or in another."""
    committed = _git("ls-files", str(_RESULTS / "*.json")).splitlines()
    if not _git("diff", "--name-only", "HEAD", "--", str(newest)):
        committed = [path for path in committed if path != str(newest)]
    if not committed:
        return None
    before: dict[str, Any] = json.loads(_git("show", f"HEAD:./{max(committed)}"))
    return before


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _tell(figures: Mapping[str, Mapping[str, Figure]]) -> None:
    table = Table("benchmark", "figure", "median", "least", "most", "better")
    for name, rows in figures.items():
        for key, row in rows.items():
            table.add_row(name, key, *_numbers(row, absent=""), row["better"])
    Console().print(table)


def _numbers(row: Figure, absent: str) -> list[str]:
    numbers = (row[part] for part in ("median", "least", "most"))
    return [absent if number is None else f"{number:.3g}" for number in numbers]


if __name__ == "__main__":
    main()
