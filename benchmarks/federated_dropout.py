"""Whose blocks may a client do without? Table 3 of the ambient-layers paper, at our scale.

From one run that was trained centrally and studied, every arm goes on training on the same clients,
with several seeds: these decide the clients of each round, their sub-models and batches. Its error
rate is that of the last round's model on the test split, which no client has and nothing was chosen
on; intervals are 95 % over seeds. The arms:

- `full` leaves nothing out; `flat` leaves out 20 % of all blocks' feed-forward units;
- `amb N` and `crit N` leave out 50 % of the N most ambient or most critical blocks' units and 10 %
  of all others'; `budget` spends what `amb 4` does where the ranking says it loses least;
- `freeze 4` neither trains the 4 most ambient blocks nor sends them back; `seed 4` draws them anew
  from a seed and sends that in their place; `seed trained 4` trains them from there;
- `small` is a smaller model all the way (`--small RUN`), of which nothing is left out;
- `central` has all clients' speech in one place and makes as many steps as they do together.

Memory and step time are one client's, measured in a process of its own with the first seed. What is
finished is not run again; give processes side by side different `--seeds`.
`python -m benchmarks.federated_dropout --run RUN --data DATA [--out OUT] [--small RUN2]
 [--seeds 0 1 2 3 4] [--arms full "amb 4" ...] [--json]`
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from pipelines import evaluate, federate
from tfasr.artifacts.files import read_json, read_json_lines, write_json
from tfasr.configs.evaluation import EvaluateConfig
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.loading import from_mapping, read_yaml
from tfasr.data.prepared import PreparedData
from tfasr.federated.accounting import account
from tfasr.federated.folder import COSTS
from tfasr.federated.measuring import measured_apart
from tfasr.federated.plans import client_plan
from tfasr.federated.round_log import LOG
from tfasr.models.layout import layout_without_weights
from tfasr.study.ranking import Ranking
from tfasr.training.run import Run

Arm = dict[str, Any]  # Settings of `FederateConfig`, as in YAML.
Row = dict[str, float]

_CONFIG = Path("pipelines/configs/people_recorded.yaml")
_NUMBERS = (2, 3, 4)
_RATES = {"rate": 0.5, "base_rate": 0.1}
_ALL = {"rate": 0.0, "base_rate": 0.0}
_CHOSEN = {"freeze 4": "freeze", "seed 4": "seed", "seed trained 4": "seed_and_train"}


def main() -> None:
    """Runs what is not yet finished, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=_CONFIG, help="with a section `federate`")
    parser.add_argument("--run", type=Path, required=True, help="studied run to begin with")
    parser.add_argument("--small", type=Path, help="the smaller model's run")
    parser.add_argument("--data", type=Path, required=True, help="the clients' speech")
    parser.add_argument("--out", type=Path, default=Path("work/dropout"))
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--arms", nargs="+", help="those to run; all are printed")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    settings = read_yaml(arguments.config)["federate"]
    every = arms(settings, arguments.run, arguments.data)
    if arguments.small is not None:
        every["small"] = {"run": str(arguments.small), "plan": {"kind": "full"}}
    chosen = arguments.arms or list(every)
    if unknown := set(chosen) - every.keys():
        parser.error(f"--arms must be of {', '.join(every)}; got {', '.join(sorted(unknown))}")
    before = {"none": _tested(arguments.run, arguments.data, arguments.out / "none", 0)}
    if arguments.small is not None:
        small = _tested(arguments.small, arguments.data, arguments.out / "none_small", 0)
        before["none, small"] = small
    for seed in arguments.seeds:
        for name in chosen:
            folder = arguments.out / name.replace(" ", "_") / str(seed)
            common = {"run": str(arguments.run), "data": str(arguments.data), "out": str(folder)}
            values = {**settings, **common, "seed": seed, **every[name]}
            _finish(from_mapping(FederateConfig, values, str(arguments.config)))
    found = {name: _rows(arguments.out / name.replace(" ", "_")) for name in every}
    found = {name: rows for name, rows in found.items() if rows}
    costs = {name: _costs(arguments.out / name.replace(" ", "_")) for name in found}
    _tell(before, found, costs)
    if arguments.json:
        print(json.dumps({"before": before, "arms": found, "costs": costs, **claims(found)}))


def arms(settings: Mapping[str, Any], run: Path, data: Path) -> dict[str, Arm]:
    """The arms that begin with one run, as settings that replace the common ones.

    Args:
        settings: Common to all.
        run: Studied.
        data: The clients' speech.
    """
    plans: dict[str, dict[str, Any]] = {"full": {"kind": "full"}}
    plans["flat"] = {"kind": "flat", "rate": 0.2}
    for kind, name in (("ambient", "amb"), ("critical", "crit")):
        for number in _NUMBERS:
            plans[f"{name} {number}"] = {"kind": kind, "blocks": number, **_RATES}
    most = _bytes_of(plans["amb 4"], run)
    plans["budget"] = {"kind": "budget", "budget": most, "budget_of": "bytes"}
    for chosen, name in (
        ("freeze", "freeze"),
        ("seed", "seed"),
        ("seed_and_train", "seed trained"),
    ):
        for number in (2, 4):
            plan = {"kind": "ambient", "blocks": number, **_ALL, "chosen": chosen}
            plans[f"{name} {number}"] = plan
    found: dict[str, Arm] = {name: {"plan": plan} for name, plan in plans.items()}
    found["central"] = {
        "plan": {"kind": "full"},
        "clients": {
            "by": "size",
            "size": PreparedData(data).index["splits"]["train"]["utterances"],
        },
        "clients_per_round": 1,
        "client_steps": settings["clients_per_round"] * settings["client_steps"],
    }
    return found


def claims(found: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """What the paper claims of table 3, as ratios of mean error rates.

    It prints 6.3, 6.5, 6.6 for its Amb-2, 3, 4 and 6.9, 7.0, 7.3 for Crit: 9 % less; and 6.6 for
    20 % of all blocks, which Amb-4 equals while it leaves more out.

    Returns:
        Of those arms that there are: `amb_N_by_crit_N`, and `amb_4_by_flat`.
    """
    pairs = [(f"amb {number}", f"crit {number}") for number in _NUMBERS] + [("amb 4", "flat")]
    return {
        f"{one} by {other}".replace(" ", "_"): _mean(found[one]) / _mean(found[other])
        for one, other in pairs
        if one in found and other in found and _mean(found[other])
    }


def _bytes_of(plan: Mapping[str, Any], run: Path) -> float:
    """What a plan sends a client and gets back in a round."""
    model = Run(run).model_config
    ranking = Ranking.read(run / "study" / "ranking.json")
    made = client_plan(PlanConfig(**plan), model, ranking)
    sizes = account(layout_without_weights(model), layout_without_weights(model, made.units), made)
    return float(sizes.bytes_down + sizes.bytes_up)


def _finish(config: FederateConfig) -> None:
    """Runs an arm with one seed, from wherever it stands, and tests it."""
    if not (config.out / "test" / "evaluation.json").is_file():
        federate.run(config)
        _tested(config.out, config.data, config.out / "test", config.rounds)


def _tested(run: Path, data: Path, out: Path, step: int) -> float:
    """The error rate of a run's checkpoint on the test split; step 0 is its best one."""
    path = out / "evaluation.json"
    if not path.is_file():
        config = EvaluateConfig(run=(run,), data=data, split="test", step=step, out=out)
        evaluate.run(config)
    return float(read_json(path)["wer"])


def _rows(folder: Path) -> list[Row]:
    """What came of an arm, a row a seed that was finished."""
    rows = []
    for path in sorted(folder.glob("*/test/evaluation.json")):
        first, *_, last = read_json_lines(path.parents[1] / LOG)
        rows.append(
            {
                "wer": read_json(path)["wer"],
                "valid_before": first["wer"],
                **{name: last[name] for name in ("dropped", "dropped_share")},
                **{name: last[name] for name in ("bytes_down", "bytes_up", "step_seconds")},
            }
        )
    return rows


def _costs(folder: Path) -> Row:
    """What an arm costs a client, measured where it was not yet."""
    run = min(path.parents[1] for path in folder.glob("*/test/evaluation.json"))
    path = run / COSTS
    if not path.is_file():
        write_json(path, {"0": measured_apart(run, 0)})
    costs: Row = read_json(path)["0"]
    return costs


def _mean(rows: Sequence[Row]) -> float:
    return float(np.mean([row["wer"] for row in rows]))


def _interval(rows: Sequence[Row]) -> str:
    """Half of the 95 % interval of the mean over seeds, in points; "" of a single one."""
    if len(rows) < 2:
        return ""
    rates = [row["wer"] for row in rows]
    half = stats.t.ppf(0.975, len(rates) - 1) * stats.sem(rates)
    return f"± {100 * half:.2f}"


def _tell(
    before: Mapping[str, float], found: Mapping[str, Sequence[Row]], costs: Mapping[str, Row]
) -> None:
    sizes_and_costs = ("dropped", "MB down", "MB up", "client MB", "s a step")
    table = Table("arm", "seeds", *sizes_and_costs, "word error rate", title="Test")
    for name, rate in before.items():
        table.add_row(name, *[""] * 6, f"{100 * rate:.2f} %")
    for name, rows in found.items():
        sizes = rows[0]
        table.add_row(
            name,
            str(len(rows)),
            f"{100 * sizes['dropped_share']:.1f} %",
            f"{sizes['bytes_down'] / 1e6:.2f}",
            f"{sizes['bytes_up'] / 1e6:.2f}",
            f"{costs[name]['client_peak_bytes'] / 1e6:.0f}",
            f"{costs[name]['client_step_seconds']:.3f}",
            f"{100 * _mean(rows):.2f} % {_interval(rows)}",
        )
    Console(width=120).print(table)
    for name, ratio in claims(found).items():
        print(f"{name}: {ratio:.3f}")


if __name__ == "__main__":
    main()
