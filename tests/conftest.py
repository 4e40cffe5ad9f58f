"""Noise, and a corpus, a run and their data small enough to make in a test."""

import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.artifacts.files import write_json_lines
from tfasr.audio.decoding import write_wav
from tfasr.configs.corpora import ShardConfig, TokenizerConfig
from tfasr.configs.data import BatchConfig
from tfasr.configs.features import FbankConfig
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.prepare import PrepareConfig
from tfasr.configs.seeds import counted_generator
from tfasr.configs.training import OptimizerConfig, TrainConfig
from tfasr.data.prepared import PreparedData
from tfasr.preparation.preparation import Preparation
from tfasr.study.ranking import Ranking, Score
from tfasr.study.scores import by_penalty
from tfasr.training.checkpoints import Progress
from tfasr.training.run import Run

RATE = 8000
# A word is a tone, in hertz.
TONES = {"a": 400.0, "e": 1200.0, "o": 2800.0}


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: encoders write the time of day, and names must repeat."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[np.float32]]:
    """Normal float32 noise of a shape, the same for the same shape and seed."""

    def make(*shape: int, seed: int = 0) -> NDArray[np.float32]:
        return counted_generator(seed, "noise", *shape).standard_normal(shape, np.float32)

    return make


def speak(text: str, name: str) -> NDArray[np.int16]:
    """The tones of a text in noise, a quarter of a second each."""
    generator = counted_generator(0, "tones", name)
    time = np.arange(RATE // 4) / RATE
    tones = np.concatenate([np.sin(2 * np.pi * TONES[word] * time) for word in text.split()])
    return np.asarray(6000 * tones + generator.normal(0, 300, len(tones)), np.int16)


@pytest.fixture(scope="session")
def rank_blocks() -> Callable[..., Ranking]:
    """A ranking by penalties of blocks, each with an interval of 0.01 to either side."""

    def rank(penalties: Mapping[int, float], **settings: Any) -> Ranking:
        scores = [
            Score(
                blocks=(block,),
                penalty=penalty,
                interval=(penalty - 0.01, penalty + 0.01),
                reinitialised_wer=0.1 + penalty,
                rerandomised_wer=(0.1 + penalty,),
            )
            for block, penalty in penalties.items()
        ]
        about = {
            "baseline_wer": 0.1,
            "method": "rerandomise",
            "seeds": (1,),
            "step": 1000,
            "model_hash": "0123456789abcdef",
            "data_hash": "fedc",
            "utterances": 300,
            "words": 1500,
            "command": "tfasr study --run run",
        }
        return Ranking(blocks=by_penalty(scores), **{**about, **settings})

    return rank


@pytest.fixture(scope="session")
def write_corpus() -> Callable[..., Path]:
    """Writes WAV files and a manifest for each split, with so many utterances in it.

    Every other utterance is ada's and "close", the rest are bo's and "phone".
    """

    def write(folder: Path, **counts: int) -> Path:
        (folder / "wav").mkdir(parents=True)
        for split, count in counts.items():
            rows = []
            for number in range(count):
                name = f"{split}-{number:02d}"
                words = counted_generator(0, "words", name).choice(list(TONES), 2 + number % 2)
                text = " ".join(words)
                write_wav(folder / "wav" / f"{name}.wav", speak(text, name), RATE)
                who = {"speaker": "bo", "domain": "phone"}
                if number % 2 == 0:
                    who = {"speaker": "ada", "domain": "close"}
                where = f"wav/{name}.wav"
                rows.append({"id": name, "audio_filepath": where, "text": text, **who})
            write_json_lines(folder / f"{split}.jsonl", rows)
        return folder

    return write


@pytest.fixture(scope="session")
def prepare_config() -> Callable[..., PrepareConfig]:
    """Settings for such a corpus: 8 mel bins, characters, 4 utterances a shard."""

    def make(source: Path, out: Path, **shards: Any) -> PrepareConfig:
        return PrepareConfig(
            corpus="manifest",
            source=source,
            out=out,
            fbank=FbankConfig(sample_rate=RATE, num_mels=8),
            tokenizer=TokenizerConfig(kind="char"),
            shards=ShardConfig(**{"utterances": 4, **shards}),
        )

    return make


@pytest.fixture(scope="session")
def tiny_data(
    tmp_path_factory: pytest.TempPathFactory,
    write_corpus: Callable[..., Path],
    prepare_config: Callable[..., PrepareConfig],
) -> PreparedData:
    """12 training, 6 validation and 6 test utterances of 0.5 to 0.75 s."""
    folder = tmp_path_factory.mktemp("tiny")
    config = prepare_config(
        write_corpus(folder / "corpus", train=12, valid=6, test=6), folder / "data"
    )
    Preparation(config).run(lambda done, total: None)
    return PreparedData(config.out)


@pytest.fixture(scope="session")
def tiny_config(tiny_data: PreparedData) -> Callable[..., TrainConfig]:
    """Two blocks, 16 wide, in batches of two seconds."""

    def make(run: Path, **changes: Any) -> TrainConfig:
        encoder = EncoderConfig(num_blocks=2, dim=16, num_heads=2, conv_kernel=3, norm_groups=4)
        settings: dict[str, Any] = {
            "model": ModelConfig(encoder=encoder),
            "batching": BatchConfig(batch_seconds=2.0, num_buckets=2, max_seconds=5.0),
            "optimizer": OptimizerConfig(peak=5e-3, warmup=10),
            "steps": 6,
            "valid_every": 3,
        }
        return TrainConfig(data=tiny_data.folder, run=run, **{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: Callable[..., TrainConfig],
    tiny_data: PreparedData,
    noise: Callable[..., NDArray[np.float32]],
) -> Run:
    """A run with a checkpoint whose weights are its first ones and noise, so that it babbles."""
    run = Run.create(tiny_config(tmp_path_factory.mktemp("tiny") / "run"), tiny_data)
    model = run.initial_model()
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(0.3 * noise(*variable.shape, seed=number))
    model.head.kernel.assign(noise(*model.head.kernel.shape, seed=1))
    progress = Progress(step=3, validation={"wer": 1.0})
    run.checkpoints.save(tf.train.Checkpoint(model=model), progress)
    return run


@pytest.fixture(scope="session")
def no_file_over() -> Callable[[int], Any]:
    """Lets the operating system refuse to let a file grow beyond so many bytes."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
