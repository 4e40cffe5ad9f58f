import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from pipelines.data_service import run
from tfasr.configs.data import BatchConfig
from tfasr.configs.data_service import DataServiceConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.data.batches import make_buckets
from tfasr.data.pipelines import TrainingPipeline
from tfasr.features.extractor import FeatureExtractor


def start(*options):
    """Starts a process of the service."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "data-service", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"},
    )


def port_of(process):
    return int(re.search(r"on port (\d+)", process.stdout.readline())[1])


@pytest.fixture(scope="module")
def service():
    """Host and port of a dispatcher with two workers, each in a process of its own."""
    dispatcher = start("--role", "dispatcher")
    address = f"localhost:{port_of(dispatcher)}"
    # Both load TensorFlow at the same time.
    workers = [start("--role", "worker", "--dispatcher", address) for _ in range(2)]
    for worker in workers:
        port_of(worker)
    yield address
    processes = [*workers, dispatcher]
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_two_workers_make_the_same_set_of_examples(service, tiny_data):
    durations = tiny_data.durations("train")
    batching = BatchConfig(batch_seconds=1.5, num_buckets=2, service=service)
    augmentation = AugmentConfig()
    pipeline = TrainingPipeline(
        source=tiny_data.source("train"),
        domains=(),
        buckets=make_buckets(durations, batching, augmentation.speeds),
        batching=batching,
        extractor=FeatureExtractor(tiny_data.fbank, tiny_data.statistics),
        augmentation=augmentation,
        masking=SpecAugmentConfig(frequency_width=2),
        seed=0,
    )
    heard = [name.decode() for b in pipeline.epoch(0).as_numpy_iterator() for name in b["id"]]
    assert sorted(heard) == [f"train-{number:02d}" for number in range(12)]


def test_a_worker_without_a_dispatcher_is_refused():
    with pytest.raises(ValueError, match="a worker needs --dispatcher HOST:PORT"):
        DataServiceConfig(role="worker")


def test_a_service_reads_no_recordings():
    with pytest.raises(ValueError, match="got service=localhost:1, reading=recordings"):
        BatchConfig(service="localhost:1", reading="recordings")


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"port must be free; got port={port}"):
            run(DataServiceConfig(role="dispatcher", port=port))


@pytest.mark.parametrize("address", ["nohost", "nohost:", ":1", "host:http"])
def test_an_address_without_a_port_is_refused(address):
    with pytest.raises(ValueError, match="dispatcher must be HOST:PORT"):
        DataServiceConfig(role="worker", dispatcher=address)
    with pytest.raises(ValueError, match="service must be HOST:PORT"):
        BatchConfig(service=address)
