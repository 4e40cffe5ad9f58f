"""The folder of a federated run: a run like any other, with its plan and its rounds."""

import shutil
from dataclasses import fields
from pathlib import Path

from tfasr.artifacts.files import (
    atomic_path,
    read_json,
    sha256_of,
    write_json,
    write_text,
)
from tfasr.configs.federated import FederateConfig
from tfasr.configs.loading import from_mapping, read_yaml, to_mapping, to_yaml
from tfasr.data.prepared import PreparedData
from tfasr.federated.plans import ClientPlan
from tfasr.training.run import Run

CLIENTS = "clients"
COSTS = "client_costs.json"
_PLAN = "plan.json"
# More rounds only prolong a run; where its folders lie and who computes it changes nothing in it.
_MOVABLE = frozenset(
    {
        *("run", "data", "out", "ranking", "rounds", "evaluate_every"),
        *("per_client", "measure", "workers"),
    }
)


def create_run(config: FederateConfig, plan: ClientPlan) -> Run:
    """Makes the folder of a federated run, or checks that the one that is there is the same's.

    A run that came to no checkpoint is begun anew, with whatever settings it is given now.

    Args:
        config: The rounds.
        plan: In its first round.

    Returns:
        A run whose model, features and tokens are those of `config.run`.

    Raises:
        ValueError: The folder holds a run with other settings or another plan.
    """
    run, origin = Run(config.out), Run(config.run)
    if run.exists:
        before = federate_config(run.folder)
        if run.checkpoints.steps():
            _refuse_other_settings(run.folder, before, config)
            if read_json(run.folder / _PLAN) != plan.to_json():
                raise ValueError(
                    f"{run.folder}: was begun with another ranking, which chose other blocks; "
                    "choose another --out or remove the folder"
                )
            return run
        shutil.rmtree(run.folder / CLIENTS, ignore_errors=True)
        (run.folder / COSTS).unlink(missing_ok=True)
    for name in ("tokenizer.model", "features.json"):
        with atomic_path(run.folder / name) as staged:
            shutil.copyfile(origin.folder / name, staged)
    write_json(run.folder / _PLAN, plan.to_json())
    sections = {"train": to_mapping(origin.config), "federate": to_mapping(config)}
    write_text(run.folder / "config.yaml", to_yaml(sections))
    return run


def federate_config(folder: Path) -> FederateConfig:
    """Reads the settings that a federated run was begun with.

    Raises:
        ValueError: The folder holds a run of another kind.
    """
    path = folder / "config.yaml"
    sections = read_yaml(path)
    if "federate" not in sections:
        raise ValueError(f"{folder}: holds a run of central training; choose another --out")
    return from_mapping(FederateConfig, sections["federate"], str(path))


def first_plan(folder: Path) -> ClientPlan:
    """Reads the plan of a federated run's first round."""
    return ClientPlan.from_json(read_json(folder / _PLAN))


def _refuse_other_settings(folder: Path, before: FederateConfig, config: FederateConfig) -> None:
    for name in (field.name for field in fields(config)):
        was, now = getattr(before, name), getattr(config, name)
        if name not in _MOVABLE and was != now:
            raise ValueError(
                f"{folder}: holds a run with other settings; got {name}={now}, there it is {was}. "
                "Choose another --out or remove the folder"
            )


def check_tokens(run: Run, data: PreparedData) -> None:
    """Refuses data whose transcripts were not encoded with the run's tokenizer.

    Raises:
        ValueError: The tokenizers differ.
    """
    ours = run.folder / "tokenizer.model"
    if not data.tokenizer.is_file() or sha256_of(data.tokenizer) != sha256_of(ours):
        raise ValueError(
            f"{data.folder}: must be encoded with the tokenizer of {run.folder}; "
            "use the data that the run was trained on"
        )
