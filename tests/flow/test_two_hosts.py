"""Two real processes that train one run together, beside one that trains it alone."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfasr.artifacts.files import read_json, read_json_lines

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEPS = 9
TIMES = ("audio_seconds_per_second", "input_wait_share")


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def started(arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def two_hosts(arguments):
    """Two processes by options."""
    hosts = ",".join(f"localhost:{port}" for port in free_ports(2))
    options = ("--distribution.hosts", hosts, "--distribution.index")
    return [started([*arguments, *options, str(index)]) for index in range(2)]


def two_of_a_cluster(arguments):
    """Two processes by TF_CONFIG."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    return [
        started(arguments, TF_CONFIG=json.dumps({"cluster": {"worker": workers}, "task": task}))
        for task in tasks
    ]


def ended(processes):
    told = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(told)
    return told


def tensors_of(run):
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step-{STEPS:08d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def metrics(run):
    rows = read_json_lines(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def newest_step(run):
    folders = (run / "checkpoints").glob("step-????????")
    return max((int(folder.name.removeprefix("step-")) for folder in folders), default=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def arguments_of(data, train_arguments):
    """Steps of two batches; an epoch's 25 batches are no whole number of them."""
    options = f"""--steps {STEPS} --valid_every 9 --checkpoint_every 3 --optimizer.accumulate 2
        --model.encoder.num_blocks 1 --model.encoder.dropout 0.1 --batching.batch_seconds 12"""
    return lambda run: train_arguments(data, run, *options.split())


@pytest.fixture(scope="module")
def alone(folder, arguments_of):
    ended([started(arguments_of(folder / "alone"))])
    return folder / "alone"


@pytest.fixture(scope="module")
def together(folder, arguments_of):
    told = ended(two_hosts(arguments_of(folder / "together")))
    return folder / "together", told


def test_two_hosts_come_to_the_losses_of_one(alone, together):
    theirs, ours = metrics(alone), metrics(together[0])
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        for name, value in yours.items():
            assert mine[name] == pytest.approx(value, rel=1e-5), name


def test_two_hosts_come_to_the_weights_of_one(alone, together):
    ours, theirs = tensors_of(together[0]), tensors_of(alone)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_hosts_stand_where_one_does(alone, together):
    ours, theirs = (
        read_json(run / "checkpoints" / f"step-{STEPS:08d}" / "progress.json")
        for run in (together[0], alone)
    )
    assert ours["epoch"] > 0
    for name in ("step", "epoch", "batch"):
        assert ours[name] == theirs[name]


def test_the_chief_alone_tells_and_writes(together):
    run, told = together
    assert "validation word error rate" in told[0]
    assert "validation" not in told[1]
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    assert (
        "distribution" not in (run / "config.yaml").read_text()
        or "localhost" not in (run / "config.yaml").read_text()
    )


def test_a_killed_host_ends_the_other_and_both_go_on(arguments_of, together, tmp_path):
    run = tmp_path / "run"
    chief, other = two_hosts(arguments_of(run))
    while chief.poll() is None and newest_step(run) < 3:
        try:
            chief.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    other.kill()
    assert "another host is gone" in chief.communicate()[0]
    assert (chief.returncode, other.wait()) == (1, -signal.SIGKILL)
    other.stdout.close()
    # What the chief said is not what it is started again for.
    ended(two_of_a_cluster(arguments_of(run)))
    ours, theirs = tensors_of(run), tensors_of(together[0])
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    assert metrics(run) == metrics(together[0])
