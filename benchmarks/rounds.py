"""Does the memory of federated rounds stay as it is?

Rounds as `tfasr federate` runs them, log and checkpoint of each included, of a tiny Conformer on
noise, clients drawn anew each round, with a sub-model, clipped updates and a momentum server, whose
states travel too. Every so many rounds it looks at the resident memory of this process and of TFF's
worker. The growth is the slope of a straight line through what both had together, without the first
hundred rounds, in which caches fill. Linux only.
`python -m benchmarks.rounds [--rounds 500] [--every 50] [--json]`
"""

import argparse
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfasr.artifacts.files import write_json_lines
from tfasr.audio.decoding import write_wav
from tfasr.configs.clients import ClientsConfig
from tfasr.configs.corpora import ShardConfig, TokenizerConfig
from tfasr.configs.features import FbankConfig, SpecAugmentConfig
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.prepare import PrepareConfig
from tfasr.configs.seeds import counted_generator
from tfasr.configs.training import TrainConfig
from tfasr.data.clients import write_clients
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.transcription import Validation
from tfasr.federated.folder import CLIENTS, create_run
from tfasr.federated.phases import build_phases
from tfasr.federated.plans import client_plan
from tfasr.federated.population import Population, client_pipeline
from tfasr.federated.rounds import FederatedTrainer
from tfasr.preparation.preparation import Preparation
from tfasr.training.checkpoints import Progress
from tfasr.training.run import Run

BETTER = {"growth_mb_per_100_rounds": "lower"}

_RATE = 8000
_UTTERANCES = 48
_WARM_UP = 100
_MODEL = ModelConfig(
    encoder=EncoderConfig(num_blocks=1, dim=16, num_heads=2, conv_kernel=3, norm_groups=4)
)


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--every", type=int, default=50, help="rounds between two looks")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    if arguments.rounds < _WARM_UP + 2 * arguments.every:
        parser.error(f"--rounds must reach two looks after the first {_WARM_UP}")
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(Path(folder), arguments.rounds)
        seen = _watched(trainer, arguments.every)
    late = np.array([row for row in seen if row[0] >= _WARM_UP])
    growth = {
        name: 100 * float(np.polyfit(late[:, 0], values, 1)[0])
        for name, values in {
            "growth_mb_per_100_rounds": late[:, 1] + late[:, 2],
            "own_growth_mb_per_100_rounds": late[:, 1],
            "worker_growth_mb_per_100_rounds": late[:, 2],
        }.items()
    }
    for name, value in growth.items():
        print(f"{name:32}{value:8.2f}")
    if arguments.json:
        print(json.dumps(growth))


def _watched(trainer: FederatedTrainer, every: int) -> list[tuple[int, float, float]]:
    """Runs the rounds; gives the number of rounds, our and the worker's megabytes at each look."""
    seen = []
    print(f"{'rounds':>8}{'own MB':>10}{'worker MB':>12}", flush=True)

    def look(done: int, total: int, **figures: float) -> None:
        if done % every == 0:
            [worker] = _children()
            seen.append((done, _resident("self"), _resident(worker)))
            print(f"{done:8d}{seen[-1][1]:10.1f}{seen[-1][2]:12.1f}", flush=True)

    trainer.train(look)
    return seen


def _resident(process: str) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


def _children() -> list[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def _trainer(folder: Path, rounds: int) -> FederatedTrainer:
    data = _prepared(folder)
    origin = Run.create(TrainConfig(data=data.folder, run=folder / "origin", model=_MODEL), data)
    checkpoint = tf.train.Checkpoint(model=origin.initial_model())
    origin.checkpoints.save(checkpoint, Progress(step=1))
    config = FederateConfig(
        run=origin.folder,
        data=data.folder,
        out=folder / "adapted",
        plan=PlanConfig(kind="flat", rate=0.5),
        clients=ClientsConfig(by="size", size=4),
        rounds=rounds,
        clients_per_round=4,
        client_steps=2,
        client_batch=2,
        aggregator="clipping",
        server="momentum",
        server_learning_rate=0.1,
        evaluate_every=rounds,
        masking=SpecAugmentConfig(frequency_width=2, time_width=5),
    )
    plan = client_plan(config.plan, origin.model_config)
    run = create_run(config, plan)
    clients = write_clients(
        data,
        config.out / CLIENTS,
        domains=(),
        limits=run.config.batching,
        config=config.clients,
        seed=config.seed,
    )
    population = Population(clients, client_pipeline(run, config), config.clients)
    phases = build_phases(run.model_config, plan, config)
    batches = evaluation_batches(
        data.source("valid"), data.durations("valid"), domains=(), extractor=run.extractor
    )
    validate = Validation(batches, run.tokenizer.pieces)
    return FederatedTrainer(run, config, phases, population, validate)


def _prepared(folder: Path) -> PreparedData:
    """Prepares noise of 0.6 to 1.5 s with a word to each."""
    source = folder / "corpus"
    source.mkdir()
    for split, count in {"train": _UTTERANCES, "valid": 2, "test": 2}.items():
        rows = []
        for number in range(count):
            name = f"{split}-{number}"
            generator = counted_generator(0, "benchmarks.rounds", name)
            samples = generator.integers(-3000, 3000, int(_RATE * generator.uniform(0.6, 1.5)))
            write_wav(source / f"{name}.wav", samples.astype(np.int16), _RATE)
            text = ("up", "down", "left", "right")[number % 4]
            rows.append({"audio_filepath": f"{name}.wav", "text": text})
        write_json_lines(source / f"{split}.jsonl", rows)
    config = PrepareConfig(
        corpus="manifest",
        source=source,
        out=folder / "data",
        fbank=FbankConfig(sample_rate=_RATE, num_mels=8),
        tokenizer=TokenizerConfig(kind="char"),
        shards=ShardConfig(utterances=16),
    )
    Preparation(config).run(lambda done, total: None)
    return PreparedData(config.out)


if __name__ == "__main__":
    main()
