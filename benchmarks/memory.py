"""What does it save, and cost, that a training step computes its blocks twice?

Steps as `tfasr train` takes them, in float32, without a moving average, on noise of 10 s an
utterance. The preset `dsc_100` takes its steps on two utterances with its blocks computed twice.
A smaller one takes them with its blocks computed twice and with all kept, in turn, so that a
change of the machine's speed meets both, and a ratio of times is the median of the rounds'.
Memory is the peak of a process of its own: TensorFlow, the graph, weights, gradients and Adam's
moments included. Start-up lasts from the start of the process to the end of its first step.
Linux only.
`python -m benchmarks.memory [--config dsc_12] [--batch 4] [--rounds 3] [--json]`
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import tensorflow as tf

from benchmarks.step_workers import StepWorker, answer_steps
from tfasr.configs.model import ModelConfig
from tfasr.configs.presets import PRESETS
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.configs.training import OptimizerConfig, TrainConfig
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.training.optimizer import make_optimizer
from tfasr.training.steps import Batch, Steps

BETTER = {
    "dsc_100_step_gib": "lower",
    "recompute_memory_ratio": "higher",
    "recompute_time_ratio": "lower",
}

_DEEP, _DEEP_BATCH = "dsc_100", 2
_FRAMES, _TOKENS = 1000, 40
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a process takes its steps of.

    Args:
        preset: Its name.
        blocks: "twice" or "kept".
        batch: Utterances.
    """

    preset: str
    blocks: str
    batch: int

    @property
    def model(self) -> ModelConfig:
        model = PRESETS[self.preset]
        return replace(model, encoder=replace(model.encoder, recompute=self.blocks == "twice"))


@dataclass(frozen=True)
class Cost:
    """What the steps of a process came to.

    Args:
        parameters: Of the model.
        start: Seconds to the end of the first step.
        steps: Seconds of each of the others.
        gibibytes: Peak of the process.
    """

    parameters: int
    start: float
    steps: list[float]
    gibibytes: float


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line; or is a worker."""
    conformers = [name for name, model in PRESETS.items() if model.family == "conformer"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=conformers, default="dsc_12", help="the smaller one")
    parser.add_argument("--batch", type=int, default=4, help="utterances in a batch of it")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--take", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.take:
        preset, blocks, batch = arguments.take
        _answer(Case(preset=preset, blocks=blocks, batch=int(batch)))
        return
    print("preset            parameters   batch   blocks   start s   step s (least to most)    GiB")
    [deep] = _costs([Case(preset=_DEEP, blocks="twice", batch=_DEEP_BATCH)], arguments.rounds)
    twice, kept = _costs(
        [
            Case(preset=arguments.config, blocks=blocks, batch=arguments.batch)
            for blocks in ("twice", "kept")
        ],
        arguments.rounds,
    )
    if arguments.json:
        ratios = (one / other for one, other in zip(twice.steps, kept.steps, strict=True))
        figures = {
            f"{_DEEP}_step_gib": deep.gibibytes,
            f"{_DEEP}_step_seconds": median(deep.steps),
            f"{_DEEP}_start_seconds": deep.start,
            "recompute_memory_ratio": kept.gibibytes / twice.gibibytes,
            "recompute_time_ratio": median(ratios),
            "recompute_start_ratio": twice.start / kept.start,
        }
        print(json.dumps(figures))


def _costs(cases: list[Case], rounds: int) -> list[Cost]:
    workers, starts = [], []
    for case in cases:
        started = time.perf_counter()
        given = [case.preset, case.blocks, str(case.batch)]
        worker = StepWorker([sys.executable, "-m", "benchmarks.memory", "--take", *given])
        worker.start()
        workers.append(worker)
        starts.append(time.perf_counter() - started)
    for _ in range(rounds):
        for worker in workers:
            worker.take()
    costs = []
    for case, worker, start in zip(cases, workers, starts, strict=True):
        cost = Cost(worker.parameters, start, worker.seconds, worker.finish())
        spread = f"({min(cost.steps):.2f} to {max(cost.steps):.2f})"
        print(
            f"{case.preset:16}{cost.parameters:12,d}{case.batch:8d}{case.blocks:>9}"
            f"{cost.start:10.1f}{median(cost.steps):9.2f} {spread:16}{cost.gibibytes:6.2f}",
            flush=True,
        )
        costs.append(cost)
    return costs


def _answer(case: Case) -> None:
    """Answers with the steps of a case."""
    config = TrainConfig(
        data=Path(), run=Path(), model=case.model, optimizer=OptimizerConfig(average=0.0)
    )
    model = build_model(config.model)
    layout = Layout(model)
    initialize(layout, _SEED)
    optimizer = make_optimizer(config.optimizer)
    optimizer.build(model.trainable_variables)
    steps = Steps(model, model, optimizer, config)
    batch, seed = _batch(case), counted_seed(_SEED, "benchmarks.memory", "dropout")
    answer_steps(layout.parameters(), lambda: steps.take([batch], [seed]).loss)


def _batch(case: Case) -> Batch:
    generator = counted_generator(_SEED, "benchmarks.memory")
    shape = [case.batch, _FRAMES, case.model.num_mels]
    tokens = generator.integers(0, case.model.vocabulary, [case.batch, _TOKENS], np.int32)
    return {
        "features": tf.constant(generator.standard_normal(shape, np.float32)),
        "num_frames": tf.fill([case.batch], _FRAMES),
        "tokens": tf.constant(tokens),
        "num_tokens": tf.fill([case.batch], _TOKENS),
    }


if __name__ == "__main__":
    main()
