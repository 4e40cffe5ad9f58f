"""Real processes, killed at moments that a seed chooses, and started again."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from pipelines.cli import main
from tfasr.artifacts.files import read_json_lines
from tfasr.configs.seeds import counted_generator

ROOT = Path(__file__).parents[2]
STEPS = 12


def finish(arguments):
    assert main(arguments) == 0
    # Training asks for it, and the tests after it are none of its business.
    disable_op_determinism()


def kill_during(arguments, progress, bounds, seed):
    """Kills a process some time after it got so far, both chosen by a seed."""
    generator = counted_generator(seed, "kill")
    wanted, seconds = generator.integers(*bounds), generator.uniform(0, 0.1)
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while process.poll() is None and progress() < wanted:
        waited(process, 0.01)
    waited(process, seconds)
    process.kill()
    told, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, told


def waited(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def contents_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def newest_step(run):
    """Of the checkpoints of a run that may not be there yet."""
    folders = (run / "checkpoints").glob("step-????????")
    return max((int(folder.name.removeprefix("step-")) for folder in folders), default=0)


def tensors_of(run, step=STEPS):
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step-{step:08d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def arguments_of(data, train_arguments):
    """Of a training of one block that writes a checkpoint every other step."""
    options = f"--steps {STEPS} --valid_every 6 --checkpoint_every 2 --model.encoder.num_blocks 1"
    return lambda run: train_arguments(data, run, *options.split())


@pytest.fixture(scope="module")
def whole(folder, arguments_of):
    finish(arguments_of(folder / "whole"))
    return tensors_of(folder / "whole")


seeds_of_kills = pytest.mark.parametrize(
    "seeds", [(1,), pytest.param((2, 3, 4), marks=pytest.mark.slow)]
)


@seeds_of_kills
def test_a_killed_preparation_ends_as_if_it_had_not_been(data, prepare_arguments, tmp_path, seeds):
    arguments = prepare_arguments(tmp_path / "data")
    shards = tmp_path / "data.partial" / "shards"
    for number, seed in enumerate(seeds):
        # Of 55 shards.
        bounds = (1 + 12 * number, 12 + 12 * number)
        kill_during(arguments, lambda: len(list(shards.glob("*.json"))), bounds, seed)
    assert not (tmp_path / "data").exists()
    finish(arguments)
    ours, theirs = contents_of(tmp_path / "data"), contents_of(data)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@seeds_of_kills
def test_a_killed_training_ends_as_if_it_had_not_been(arguments_of, whole, tmp_path, seeds):
    run = tmp_path / "run"
    for number, seed in enumerate(seeds):
        bounds = (1 + 2 * number, 3 + 2 * number)
        kill_during(arguments_of(run), lambda: newest_step(run), bounds, seed)
    finish(arguments_of(run))
    ours = tensors_of(run)
    assert ours.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.slow
def test_a_killed_training_in_parts_ends_as_if_it_had_not_been(arguments_of, tmp_path):
    def arguments(run):
        return [*arguments_of(run), "--optimizer.parallel", "2"]

    def finish_alone(run):
        # How many threads an operation has is settled once in a process.
        command = [sys.executable, "-m", "pipelines.cli", *arguments(run)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return tensors_of(run)

    run = tmp_path / "run"
    kill_during(arguments(run), lambda: newest_step(run), (3, 7), 5)
    ours, theirs = finish_alone(run), finish_alone(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


ROUNDS = """--plan.kind flat --plan.rate 0.5 --clients.by size --clients.size 8 --rounds 6
    --clients_per_round 2 --client_steps 2 --client_batch 4 --server momentum --evaluate_every 3"""


@pytest.mark.slow
@pytest.mark.federated
@pytest.mark.parametrize("option", ["--aggregator clipping", "--plan.groups 2"])
def test_killed_rounds_end_as_if_they_had_not_been(folder, data, whole, tmp_path, option):
    def arguments_of(run):
        origin = ["--run", str(folder / "whole"), "--data", str(data), "--out", str(run)]
        return ["federate", *origin, *ROUNDS.split(), *option.split()]

    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    finish(arguments_of(undisturbed))
    kill_during(arguments_of(run), lambda: newest_step(run), (1, 5), 5)
    assert newest_step(run) < 6
    finish(arguments_of(run))
    ours, theirs = (tensors_of(each, 6) for each in (run, undisturbed))
    # The server's momentum and the aggregator's estimates are among them.
    assert any("optimizer" in name for name in theirs)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    ours, theirs = (read_json_lines(each / "rounds.jsonl") for each in (run, undisturbed))
    for row in [*ours, *theirs]:
        row.pop("seconds", None)
        row.pop("step_seconds", None)
    assert ours == theirs
