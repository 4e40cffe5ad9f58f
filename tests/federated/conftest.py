"""A trained run, its data and its ranking, small enough to federate in a test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.artifacts.files import write_json, write_json_lines
from tfasr.configs.corpora import TokenizerConfig
from tfasr.configs.data import BatchConfig
from tfasr.configs.features import FbankConfig, SpecAugmentConfig
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.seeds import counted_generator
from tfasr.configs.training import TrainConfig
from tfasr.data.clients import write_clients
from tfasr.data.prepared import PreparedData
from tfasr.data.shards import Record, write_shard
from tfasr.federated.accounting import Account, account
from tfasr.federated.folder import CLIENTS
from tfasr.federated.plans import ClientPlan, client_plan
from tfasr.federated.population import Population, client_pipeline
from tfasr.federated.process import build_process
from tfasr.models.layout import layout_without_weights
from tfasr.study.ranking import Ranking
from tfasr.text.tokenizer import Tokenizer, train_tokenizer
from tfasr.training.checkpoints import Progress
from tfasr.training.run import Run

FBANK = FbankConfig(sample_rate=8000, num_mels=8)
SPEAKERS = ("ada", "bo", "cy")
TEXTS = ("up", "down", "left", "right", "up down")


def recording(name: str, seconds: float) -> np.ndarray:
    generator = counted_generator(0, "noise", name)
    return generator.integers(-3000, 3000, int(seconds * FBANK.sample_rate)).astype(np.int16)


def records(split: str, tokenizer: Tokenizer) -> list[Record]:
    """Speaker s has 3 + s training utterances and one to validate on, in domain "close"."""
    rows = []
    for index, speaker in enumerate(SPEAKERS):
        for number in range(3 + index if split == "train" else 1):
            text = TEXTS[number % len(TEXTS)]
            rows.append(
                Record(
                    utterance_id=f"{split}-{speaker}-{number}",
                    number=len(rows),
                    samples=recording(f"{split}{speaker}{number}", 0.6 + 0.1 * number),
                    tokens=tokenizer.encode(text),
                    text=text,
                    speaker=speaker,
                    domain="close",
                )
            )
    return rows


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("data")
    settings = TokenizerConfig(kind="char")
    train_tokenizer(list(TEXTS), settings, folder / "tokenizer.model")
    tokenizer = Tokenizer(folder / "tokenizer.model")
    splits = {"test": {"utterances": 0, "seconds": 0.0, "shards": []}}
    for split in ("train", "valid"):
        rows = records(split, tokenizer)
        write_shard(folder / f"shards/{split}-00000.tfrecord", rows)
        manifest = [
            {
                "duration": len(row.samples) / FBANK.sample_rate,
                "speaker": row.speaker,
                "domain": row.domain,
            }
            for row in rows
        ]
        write_json_lines(folder / f"{split}.jsonl", manifest)
        splits[split] = {"shards": [{"file": f"shards/{split}-00000.tfrecord"}]}
    mean_and_deviation = {"mean": [8.0] * 8, "deviation": [2.0] * 8}
    write_json(folder / "cmvn.json", mean_and_deviation)
    index = {
        "sample_rate": FBANK.sample_rate,
        "fbank": {"sample_rate": FBANK.sample_rate, "num_mels": 8},
        "withheld_domains": ["close"],
        "splits": splits,
    }
    write_json(folder / "data.json", index)
    return PreparedData(folder)


@pytest.fixture(scope="session")
def origin(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("origin") / "run"
    # Of one block: every block takes seconds to trace.
    encoder = EncoderConfig(
        num_blocks=1, dim=16, num_heads=2, conv_kernel=3, norm_groups=4, dropout=0.1
    )
    config = TrainConfig(data=data.folder, run=folder, model=ModelConfig(encoder=encoder))
    run = Run.create(config, data)
    model = run.initial_model()
    run.checkpoints.save(tf.train.Checkpoint(model=model), Progress(step=1))
    return run


@pytest.fixture(scope="session")
def ranking(rank_blocks: Callable[..., Ranking]) -> Ranking:
    """Block 1 is ambient, block 0 critical."""
    return rank_blocks({1: 0.1, 0: 0.5})


@pytest.fixture(scope="session")
def make_config(origin: Run, data: PreparedData) -> Callable[[Path], FederateConfig]:
    """A block at half its units, 4 rounds of 2 clients with 2 steps, written to a folder."""

    def make(out: Path) -> FederateConfig:
        return FederateConfig(
            run=origin.folder,
            data=data.folder,
            out=out,
            plan=PlanConfig(kind="ambient", blocks=1, base_rate=0.0),
            rounds=4,
            clients_per_round=2,
            client_steps=2,
            client_batch=2,
            evaluate_every=2,
            masking=SpecAugmentConfig(frequency_width=2, time_width=5),
        )

    return make


@pytest.fixture(scope="session")
def make_population(origin: Run, data: PreparedData) -> Callable[[FederateConfig], Population]:
    """The clients of a configuration."""

    def make(config: FederateConfig) -> Population:
        limits = BatchConfig(min_seconds=0.1, max_seconds=5.0)
        clients = write_clients(
            data,
            config.out / CLIENTS,
            domains=(),
            limits=limits,
            config=config.clients,
            seed=config.seed,
        )
        return Population(clients, client_pipeline(origin, config), config.clients)

    return make


@pytest.fixture
def config(make_config: Callable[[Path], FederateConfig], tmp_path: Path) -> FederateConfig:
    return make_config(tmp_path / "adapted")


@pytest.fixture
def full_config(config: FederateConfig) -> FederateConfig:
    return replace(config, plan=PlanConfig(kind="full"))


@pytest.fixture
def population(
    make_population: Callable[[FederateConfig], Population], config: FederateConfig
) -> Population:
    return make_population(config)


@pytest.fixture(scope="session")
def plan(
    make_config: Callable[[Path], FederateConfig], origin: Run, rank_blocks: Callable[..., Ranking]
) -> ClientPlan:
    return client_plan(make_config(Path()).plan, origin.model_config, rank_blocks({0: 0.1}))


@pytest.fixture(scope="session")
def sizes(origin: Run, plan: ClientPlan) -> Account:
    """Of that plan."""
    config = origin.model_config
    return account(layout_without_weights(config), layout_without_weights(config, plan.units), plan)


@pytest.fixture(scope="session")
def process(
    make_config: Callable[[Path], FederateConfig], origin: Run, plan: ClientPlan
) -> tff.learning.templates.LearningProcess:
    """Takes seconds to trace, so all tests of these settings share it."""
    return build_process(origin.model_config, plan, make_config(Path()))
