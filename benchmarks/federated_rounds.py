"""A federated round of ours, and the same client steps without any framework.

A worker of `benchmarks.federated`: KIND is "round", as `tfasr federate` runs it, on the clients'
audio files; "tensors", the same on the features that peers are given; "bare", the client steps
alone, in as many threads as there are cores and with one of TensorFlow's own each; each of a full
model, or of one with half of all feed-forward units with "-half" behind it.
`python -m benchmarks.federated_rounds FOLDER KIND CLIENTS`
"""

import collections
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.step_workers import answer_steps
from benchmarks.twins import place_of
from tfasr.artifacts.files import write_json
from tfasr.configs.features import FbankConfig, SpecAugmentConfig
from tfasr.configs.federated import LIGHT_MASKING, PLAIN_AUDIO, FederateConfig, PlanConfig
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.seeds import counted_generator
from tfasr.data.clients import Client, ClientPipeline, batch_spec
from tfasr.data.shards import Record, write_shard
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.federated.phases import build_phases
from tfasr.federated.plans import ClientPlan, client_plan
from tfasr.federated.process import ClientModel
from tfasr.federated.rounds import Server
from tfasr.federated.workers import worker_context
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

MODEL = ModelConfig(
    encoder=EncoderConfig(num_blocks=6, dim=96, num_heads=4, norm_groups=8, dropout=0.0)
)
STEPS, BATCH = 4, 8
_SECONDS, _TOKENS = 2.0, 8
_SEED = 0
_FBANK = FbankConfig()
# About what these filters make of the noise below.
_EXTRACTOR = FeatureExtractor(_FBANK, FeatureStatistics((14.0,) * 80, (2.0,) * 80))


def pipeline(masking: SpecAugmentConfig = LIGHT_MASKING) -> ClientPipeline:
    """Makes the clients' batches as `tfasr federate` does where nothing else is asked for."""
    return ClientPipeline(
        extractor=_EXTRACTOR,
        augmentation=PLAIN_AUDIO,
        masking=masking,
        batch=BATCH,
        steps=STEPS,
        straggler_share=0.0,
        seed=_SEED,
    )


def clients(folder: Path, number: int) -> list[Client]:
    """Names the clients that `write_case` writes."""
    utterances = STEPS * BATCH
    return [
        Client(f"{each:05d}", folder / f"{each:05d}.tfrecord", utterances, utterances * _SECONDS)
        for each in range(number)
    ]


def federate_config(folder: Path, kind: str) -> FederateConfig:
    """The rounds' settings: plain federated averaging of whole models, or of half ones."""
    half = PlanConfig(kind="flat", rate=0.5)
    return FederateConfig(
        run=folder,
        data=folder,
        out=folder,
        plan=half if kind.endswith("-half") else PlanConfig(kind="full"),
        client_steps=STEPS,
        client_batch=BATCH,
        seed=_SEED,
    )


def write_case(folder: Path, number: int) -> None:
    """Writes what all are given: the model's shape and weights, and each client's data."""
    encoder, config = MODEL.encoder, federate_config(folder, "round")
    case = {
        "dim": encoder.dim,
        "blocks": encoder.num_blocks,
        "heads": encoder.num_heads,
        "kernel": encoder.conv_kernel,
        "groups": encoder.norm_groups,
        "mels": MODEL.num_mels,
        "outputs": MODEL.vocabulary + 1,
        "batch": BATCH,
        "learning_rate": config.client_learning_rate,
        "clip_norm": config.client_clip_norm,
    }
    write_json(folder / "case.json", case)
    layout = Layout(build_model(MODEL))
    initialize(layout, _SEED)
    np.savez(folder / "weights.npz", **{place_of(e): e.variable.numpy() for e in layout})
    made = pipeline()
    for client in clients(folder, number):
        write_shard(client.file, _records(client))
        batches = list(made.round(client, 0).as_numpy_iterator())
        for name in ("features", "tokens"):
            values = np.stack([batch[name] for batch in batches])
            np.save(_array(client, name), values)


def _records(client: Client) -> list[Record]:
    generator = counted_generator(_SEED, "benchmarks.federated", client.name)
    samples = int(_SECONDS * _FBANK.sample_rate)
    return [
        Record(
            utterance_id=f"{client.name}-{number}",
            number=number,
            samples=generator.integers(-3000, 3000, samples).astype(np.int16),
            tokens=generator.integers(0, MODEL.vocabulary, _TOKENS).tolist(),
            text="",
            speaker=client.name,
            domain="",
        )
        for number in range(client.utterances)
    ]


def tensors(client: Client) -> tf.data.Dataset:
    """Reads the batches that were written for peers."""
    (features, frames), (tokens, length) = (_read(client, n) for n in ("features", "tokens"))
    lengths = {"num_frames": tf.fill([BATCH], frames), "num_tokens": tf.fill([BATCH], length)}

    def batch(features: tf.Tensor, tokens: tf.Tensor) -> collections.OrderedDict[str, tf.Tensor]:
        parts = {"features": features, "tokens": tokens, "seed": tf.zeros([2], tf.int32), **lengths}
        return collections.OrderedDict((name, parts[name]) for name in batch_spec(MODEL.num_mels))

    made = tf.data.Dataset.zip((features, tokens)).map(batch)
    # Of lengths that are not known, as a pipeline's.
    known = tf.data.experimental.to_variant(made)
    return tf.data.experimental.from_variant(known, batch_spec(MODEL.num_mels))


def _read(client: Client, name: str) -> tuple[tf.data.Dataset, int]:
    """Reads the steps of an array's file, and their second length."""
    path = _array(client, name)
    array = np.load(path, mmap_mode="r")
    steps = tf.data.FixedLengthRecordDataset(str(path), array[0].nbytes, array.offset)
    made = steps.map(lambda step: tf.reshape(tf.io.decode_raw(step, array.dtype), array.shape[1:]))
    return made, array.shape[2]


def _array(client: Client, name: str) -> Path:
    return client.file.with_name(f"{client.name}-{name}.npy")


class Bare:
    """The client steps alone: each thread has a model of its own.

    Args:
        plan: Of the client's model.
        config: Their rate and clipping.
        weights: With which clients begin.
    """

    def __init__(self, plan: ClientPlan, config: FederateConfig, weights: list[Any]) -> None:
        threads = len(os.sched_getaffinity(0))
        self.threads = ThreadPoolExecutor(threads)
        self.free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads):
            self.free.put(_bare_client(plan, config, weights))

    def take(self, data: list[tf.data.Dataset]) -> float:
        """Runs all clients; gives their mean loss."""
        return float(np.mean(list(self.threads.map(self._client, data))))

    def _client(self, data: tf.data.Dataset) -> float:
        client = self.free.get()
        loss = client(data)
        self.free.put(client)
        return float(loss)


def _bare_client(
    plan: ClientPlan, config: FederateConfig, weights: list[Any]
) -> Callable[[tf.data.Dataset], float]:
    model = ClientModel(MODEL, plan)
    variables = model.trainable_variables

    @tf.function
    def step(batch: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.forward_pass(batch).loss
        gradients = tape.gradient(loss, variables)
        clipped, _ = tf.clip_by_global_norm(gradients, config.client_clip_norm)
        for variable, gradient in zip(variables, clipped, strict=True):
            variable.assign_sub(config.client_learning_rate * gradient)
        return loss

    def client(data: tf.data.Dataset) -> float:
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
        return float(np.mean([step(batch) for batch in data]))

    return client


def main() -> None:
    """Answers with rounds."""
    folder, kind, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    config = replace(federate_config(folder, kind), clients_per_round=number)
    plan = client_plan(config.plan, MODEL)
    own, made, rounds = clients(folder, number), pipeline(), iter(range(sys.maxsize))
    saved = np.load(folder / "weights.npz")
    data = partial(_data, own, made, kind.startswith("tensors"))
    if kind.startswith("bare"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        layout = Layout(build_model(MODEL, plan.units))
        weights = [_slice(saved[place_of(entry)], entry.shape) for entry in layout]
        bare = Bare(plan, config, weights)
        answer_steps(layout.parameters(), lambda: bare.take(data(next(rounds))))
        return
    [phase] = build_phases(MODEL, plan, config)
    model = build_model(MODEL)
    for entry in Layout(model):
        entry.variable.assign(saved[place_of(entry)])
    with worker_context(folder / f"{kind}-{number}.log"):
        server = Server(phase.process, model)

        def take() -> float:
            count = next(rounds)
            return float(server.next(count, data(count))["loss"])

        answer_steps(phase.sizes.parameters_client, take)


def _data(
    own: list[Client], made: ClientPipeline, from_tensors: bool, number: int
) -> list[tf.data.Dataset]:
    return [tensors(client) if from_tensors else made.round(client, number) for client in own]


def _slice(value: Any, shape: tuple[int, ...]) -> Any:
    return value[tuple(slice(length) for length in shape)]


if __name__ == "__main__":
    main()
