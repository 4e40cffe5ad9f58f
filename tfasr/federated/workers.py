"""The process that TFF computes in, ended whatever way ours ends."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import portpicker

from tfasr.federated.connections import Worker, channel_to, installed
from tfasr.federated.launcher import tied

# How soon it is noticed that a worker ended instead of answering.
_POLL_SECONDS = 2


@contextmanager
def worker_context(log: Path, threads_per_client: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Runs TFF computations of the block in a worker of our own.

    TFF's own local runtime starts a worker of 1 to 2 GB that often outlives Python. This one is
    ended when the block is left, and by the kernel when our process ends in any other way.

    Must be called from the main thread: the kernel ends the worker with the thread that
    started it.

    Args:
        log: File for what the worker prints.
        threads_per_client: Threads of one client's computations. Clients run side by side, one
            a core, so one thread each is fastest.

    Outside such blocks TFF computations are refused from then on: TFF's own runtime would start
    the very worker that this one replaces.

    Yields:
        The worker's process.

    Raises:
        ChildProcessError: The worker ended at once; the message names its log.
        WorkerLost: A computation of the block found the worker ended, such as by the kernel for
            want of memory.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    told = (
        f"{log}: TFF's worker ended, perhaps for want of memory. Run the same command to go on "
        "from the last round"
    )
    with (
        log.open("wb") as out,
        started_worker(0, threads_per_client, out) as (process, port),
        channel_to(f"localhost:{port}") as channel,
        installed(Worker(channel, told)),
    ):
        yield process


@contextmanager
def started_worker(
    port: int, threads_per_client: int = 1, out: IO[bytes] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Keeps a worker for the block, from the moment that it answers; as `worker_context`.

    Args:
        port: That it listens on, at every address of this machine; 0 takes a free one.
        threads_per_client: Threads of one client's computations.
        out: File for what it prints; None for where our own output goes.

    Yields:
        Its process, and its port.

    Raises:
        ChildProcessError: It ended at once.
    """
    port = port or portpicker.pick_unused_port()
    process = _start(port, threads_per_client, out)
    try:
        with channel_to(f"localhost:{port}") as channel:
            worker = Worker(channel, "")
            while not worker.answers(_POLL_SECONDS):
                if process.poll() is not None:
                    where = f": {out.name}" if out else ""
                    raise ChildProcessError(f"TFF's worker ended with {process.returncode}{where}")
        yield process, port
    finally:
        process.kill()
        process.wait()


def _start(port: int, threads: int, out: IO[bytes] | None) -> subprocess.Popen[bytes]:
    spec = find_spec("tensorflow_federated")
    if spec is None or spec.origin is None:
        raise ChildProcessError("TFF's worker must lie in its package; got no package")
    binary = Path(spec.origin).parent / "data" / "worker_binary"
    cores = len(os.sched_getaffinity(0))
    return subprocess.Popen(
        tied(str(binary), f"--port={port}", f"--max_concurrent_computation_calls={cores}"),
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads)},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
    )
