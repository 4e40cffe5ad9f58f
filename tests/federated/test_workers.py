import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
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


@pytest.fixture
def program(tmp_path):
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "worker.log")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield started
    started.kill()
    started.communicate()


@pytest.fixture(scope="module")
def successor():
    return tff.tensorflow.computation(lambda number: number + 1, np.int32)


def is_worker(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"worker_binary" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


# Python ends at once by either signal, and leaves the block as this process does below.
@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("return", marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_its_program(program, how):
    worker, result = map(int, program.stdout.readline().split())
    assert result == 42
    assert is_worker(worker)
    handle = os.pidfd_open(worker)
    end(program, how)
    # A process's handle turns readable when it has ended.
    assert select.select([handle], [], [], 20)[0]
    os.close(handle)


def test_no_worker_outlives_its_block(successor, tmp_path):
    with worker_context(tmp_path / "log") as worker:
        assert is_worker(worker.pid)
        assert successor(41) == 42
    assert worker.returncode == -signal.SIGKILL


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
