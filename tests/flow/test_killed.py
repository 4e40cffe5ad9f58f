"""Real processes, killed at moments that a seed chooses, and started again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.seeds import counted_generator

ROOT = Path(__file__).parents[2]
STEPS = 12


def start(arguments):
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(arguments):
    process = start(arguments)
    told, _ = process.communicate()
    assert process.returncode == 0, told


def kill_during(arguments, folder, pattern, most, seed):
    """Kills a process some time after so many files are there, both chosen by a seed."""
    generator = counted_generator(seed, "kill")
    wanted, seconds = generator.integers(1, most), generator.uniform(0, 0.2)
    process = start(arguments)
    while process.poll() is None and len(list(folder.glob(pattern))) < wanted:
        waited(process, 0.01)
    waited(process, seconds)
    assert process.poll() is None, process.stdout.read()
    process.kill()
    process.communicate()


def waited(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def contents_of(folder):
    """Every file; names with a dot are what a killed writer was at."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in paths
        if not any(part.startswith(".") for part in path.parts)
    }


def tensors_of(run):
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step-{STEPS:08d}" / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def data(folder, prepare_arguments):
    finish(prepare_arguments(folder / "data", "--shards.utterances", "2"))
    return folder / "data"


@pytest.fixture(scope="module")
def arguments_of(data, train_arguments):
    """Of a training of one block that writes a checkpoint every other step."""
    options = f"--steps {STEPS} --valid_every 6 --checkpoint_every 2 --model.encoder.num_blocks 1"
    return lambda run: train_arguments(data, run, *options.split())


@pytest.fixture(scope="module")
def whole(folder, arguments_of):
    finish(arguments_of(folder / "whole"))
    return tensors_of(folder / "whole")


@pytest.mark.parametrize("seeds", [(1,), pytest.param((2, 3, 4), marks=pytest.mark.slow)])
def test_a_killed_preparation_ends_as_if_it_had_not_been(data, prepare_arguments, tmp_path, seeds):
    arguments = prepare_arguments(tmp_path / "data", "--shards.utterances", "2")
    for number, seed in enumerate(seeds):
        # Of 55 shards, a few more are there each time.
        partial, most = tmp_path / "data.partial" / "shards", 12 * (number + 1)
        kill_during(arguments, partial, "*.json", most, seed)
    assert not (tmp_path / "data").exists()
    finish(arguments)
    ours, theirs = contents_of(tmp_path / "data"), contents_of(data)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("seeds", [(1,), pytest.param((2, 3, 4), marks=pytest.mark.slow)])
def test_a_killed_training_ends_as_if_it_had_not_been(arguments_of, whole, tmp_path, seeds):
    run = tmp_path / "run"
    for number, seed in enumerate(seeds):
        pattern, most = "metrics.jsonl" if number else "checkpoints/step-*", 3
        kill_during(arguments_of(run), run, pattern, most, seed)
    finish(arguments_of(run))
    ours = tensors_of(run)
    assert ours.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
