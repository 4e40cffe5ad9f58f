import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import tensorflow_federated as tff

from tfasr.federated.workers import worker_context

pytestmark = pytest.mark.federated

# Computes something in a worker, names the worker, and ends at the next line.
PROGRAM = """
import sys
from contextlib import ExitStack
from pathlib import Path
import numpy as np
import tensorflow_federated as tff
from tfasr.federated.workers import worker_context

@tff.tensorflow.computation(np.int32)
def successor(number):
    return number + 1

with worker_context(Path(sys.argv[1])) as worker:
    print(worker.pid, int(successor(41)), flush=True)
    sys.stdin.readline()
"""


def end(program, how):
    if isinstance(how, signal.Signals):
        program.send_signal(how)
    else:
        program.stdin.write("\n")
        program.stdin.flush()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """One program for each way to end, all started at once, since they import for seconds."""
    folder = tmp_path_factory.mktemp("programs")
    ways = ["return", signal.SIGTERM, signal.SIGKILL]
    started = {
        way: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder / f"{number}.log")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number, way in enumerate(ways)
    }
    yield started
    for program in started.values():
        program.kill()
        program.communicate()


def is_worker(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"worker_binary" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["return", signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_program(programs, how):
    program = programs[how]
    worker, result = map(int, program.stdout.readline().split())
    assert result == 42
    assert is_worker(worker)
    handle = os.pidfd_open(worker)
    end(program, how)
    # A process's handle turns readable when it has ended.
    assert select.select([handle], [], [], 20)[0]
    os.close(handle)


def test_no_worker_outlives_an_error(tmp_path):
    with ExitStack() as stack:
        worker = stack.enter_context(worker_context(tmp_path / "log"))
        stack.enter_context(pytest.raises(ValueError, match="asked for"))
        raise ValueError("asked for")
    assert worker.returncode == -signal.SIGKILL


def test_a_worker_gives_each_client_one_thread(tmp_path):
    with worker_context(tmp_path / "log") as worker:
        environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
    assert b"TF_NUM_INTRAOP_THREADS=1" in environment


def test_a_computation_outside_starts_no_worker_of_tffs_own(tmp_path):
    with worker_context(tmp_path / "log"):
        pass
    one = tff.tensorflow.computation(lambda: 1)
    with pytest.raises(RuntimeError, match="must run in a worker_context"):
        one()
