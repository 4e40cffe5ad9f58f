"""A corpus of tones, and the settings with which a small model learns them in fifty steps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli import main

PREPARE = """--corpus manifest --fbank.sample_rate 8000 --fbank.num_mels 16 --tokenizer.kind char
    --shards.utterances 2 --shards.withheld_domains phone"""
TRAIN = """--model.encoder.num_blocks 2 --model.encoder.dim 16 --model.encoder.num_heads 2
    --model.encoder.conv_kernel 3 --model.encoder.norm_groups 4 --model.encoder.dropout 0
    --augmentation.speeds 1 --masking.time_masks 0 --masking.frequency_masks 0
    --batching.batch_seconds 3 --optimizer.peak 1e-2 --optimizer.warmup 20"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, write_corpus: Callable[..., Path]) -> Path:
    return write_corpus(tmp_path_factory.mktemp("flow") / "corpus", train=96, valid=8, test=6)


@pytest.fixture(scope="session")
def prepare_arguments(corpus: Path) -> Callable[..., list[str]]:
    def arguments(out: Path, *more: str) -> list[str]:
        return ["prepare", *PREPARE.split(), "--source", str(corpus), "--out", str(out), *more]

    return arguments


@pytest.fixture(scope="session")
def data(
    tmp_path_factory: pytest.TempPathFactory, prepare_arguments: Callable[..., list[str]]
) -> Path:
    """The corpus in 55 shards."""
    folder = tmp_path_factory.mktemp("work") / "data"
    assert main(prepare_arguments(folder)) == 0
    return folder


@pytest.fixture(scope="session")
def train_arguments() -> Callable[..., list[str]]:
    def arguments(data: Path, run: Path, *more: str) -> list[str]:
        return ["train", *TRAIN.split(), "--data", str(data), "--run", str(run), *more]

    return arguments
