from dataclasses import replace

import numpy as np
import pytest

from tfasr.artifacts.files import read_json_lines
from tfasr.configs.federated import PlanConfig
from tfasr.federated.folder import create_run
from tfasr.federated.phases import build_phases
from tfasr.federated.plans import client_plan
from tfasr.federated.rounds import FederatedTrainer
from tfasr.federated.seeding import SeededBlocks
from tfasr.models.layout import Layout
from tfasr.training.run import Run

pytestmark = pytest.mark.federated


def test_a_block_travels_as_its_seed_until_it_is_trained(origin, config, rank_blocks, population):
    model_config = origin.model_config
    plan = PlanConfig(kind="ambient", blocks=1, rate=0.0, base_rate=0.0, chosen="seed_and_train")
    config = replace(config, plan=plan, rounds=2)
    first = client_plan(plan, model_config, rank_blocks({0: 0.1}))
    phases = build_phases(model_config, first, config)
    assert [phase.first for phase in phases] == [0, 1]
    run = create_run(config, first)
    FederatedTrainer(run, config, phases, population, lambda model: {"wer": 0.5}).train(
        lambda done, total, **figures: None
    )
    weights = [Run(config.out).trained_model(step).variables for step in (1, 2)]
    entries = Layout(origin.trained_model()).entries
    seeding = SeededBlocks(entries, (0,), config.seed)
    drawn = seeding.draw(seeding.seeds())
    kernel = [entry.name for entry in entries].index("block_0/feed_forward_1/up/kernel")
    one, two = (values[kernel].numpy() for values in weights)
    # Near its draw after a round, and moved by each.
    assert 0 < np.abs(one - drawn[kernel]).max() < 0.1
    assert (one != two).any()
    rows = read_json_lines(config.out / "rounds.jsonl")[1:]
    block = sum(entry.size for entry in entries if entry.block == 0)
    assert rows[1]["bytes_down"] - rows[0]["bytes_down"] == 4 * block - 16 - 4
    assert rows[0]["bytes_up"] == rows[1]["bytes_up"]
