import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tfasr.preparation.preparation import Preparation
from tfasr.preparation.runners import open_runner, useful_jobs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("jobs", "shards", "processes"),
    [
        (0, 1, 1),
        # A worker is worth its start for 32 shards, and takes two cores.
        (0, 63, 1),
        (0, 64, 2),
        (0, 10_000, 2),
        (1, 10_000, 1),
        (7, 10_000, 7),
        (7, 3, 3),
        (7, 0, 1),
    ],
)
def test_as_many_processes_as_are_asked_for_or_useful(config, jobs, shards, processes):
    assert useful_jobs(replace(config, jobs=jobs), shards) == processes


@pytest.mark.usefixtures("four_cores")
def test_a_corpus_that_speaks_in_processes_of_its_own_is_given_no_others(config):
    assert useful_jobs(replace(config, corpus="synthetic"), 10_000) == 1


# A preparation that workers begin has the same bytes too: the test of a killed parent shows it.
@pytest.mark.slow
def test_worker_processes_write_the_same_bytes(config, prepare, contents_of):
    alone = prepare(replace(config, jobs=1, out=config.out.with_name("alone")))
    together = prepare(replace(config, jobs=2))
    assert contents_of(together.folder) == contents_of(alone.folder)


def test_an_error_in_a_worker_is_told_as_in_this_process(config, prepare):
    # Of two bad entries the first is told, whichever is met first.
    (config.source / "wav" / "train-01.wav").write_bytes(b"")
    (config.source / "wav" / "test-00.wav").write_bytes(b"")
    told = []
    for jobs in (1, 2):
        with pytest.raises(ValueError, match="train-01") as raised:
            prepare(replace(config, jobs=jobs))
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told(config):
    def kill(done, total):
        for process in multiprocessing.active_children():
            process.kill()

    small = replace(config, shards=replace(config.shards, utterances=1), jobs=2)
    with pytest.raises(OSError, match="was killed, maybe for want of memory; run the same"):
        Preparation(small).run(kill)


def test_a_beam_runner_without_beam_says_what_to_install(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfasr\[beam\]'"):
        open_runner(replace(config, runner="DirectRunner"))


@pytest.fixture
def many(write_corpus, prepare_config, tmp_path):
    """Twelve shards, for two workers."""
    corpus = write_corpus(tmp_path / "corpus", train=12)
    return replace(prepare_config(corpus, tmp_path / "data", utterances=1), jobs=2)


@pytest.fixture
def recording(many):
    """Path and content of the seventh shard's recording."""
    path = many.source / "wav" / "train-06.wav"
    return path, path.read_bytes()


@pytest.fixture
def process(many):
    """The command that prepares them, as the leader of a group."""
    options = f"""prepare --corpus manifest --source {many.source} --out {many.out}
        --fbank.sample_rate 8000 --fbank.num_mels 8 --tokenizer.kind char
        --shards.utterances 1 --jobs 2"""
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *options.split()],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, they ignore Ctrl-C, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        yield process
        process.kill()


def wait_for(process, condition):
    while process.poll() is None and not condition():
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue


@pytest.fixture
def workers(process, many, recording):
    """Its workers, when they have written some shards and cannot end."""
    partial, path = many.out.with_name("data.partial"), recording[0]
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    # Workers load TensorFlow for seconds before the first of them reads a recording. That of
    # the seventh shard is a pipe by then, to which nobody writes.
    wait_for(process, (partial / "listing.json").is_file)
    pipe.rename(path)
    wait_for(process, lambda: len(list((partial / "shards").glob("*.json"))) >= 3)
    return psutil.Process(process.pid).children(recursive=True)


def alive(workers):
    return psutil.wait_procs(workers, timeout=10)[1]


def test_workers_end_with_a_killed_parent_and_the_next_goes_on(
    many, recording, process, workers, prepare, contents_of
):
    process.kill()
    assert len(workers) >= 2
    assert alive(workers) == []
    assert not many.out.exists()
    path, audio = recording
    path.unlink()
    path.write_bytes(audio)
    alone = replace(many, jobs=1)
    whole = prepare(replace(alone, out=many.out.with_name("whole")))
    assert contents_of(prepare(alone).folder) == contents_of(whole.folder)


# A terminal's Ctrl-C goes to the whole group, a program's signal to the leader.
@pytest.mark.parametrize("send", [os.killpg, pytest.param(os.kill, marks=pytest.mark.slow)])
def test_an_interrupted_preparation_ends_its_workers_with_one_line(process, workers, send):
    send(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert alive(workers) == []
    assert process.returncode == 130
    lines = [line for line in told.splitlines() if not line.startswith("prepare  ")]
    assert lines == ["tfasr prepare: interrupted; run the same command to go on"]
