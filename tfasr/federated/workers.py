"""The process that TFF computes in, ended whatever way ours ends."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import portpicker
import tensorflow_federated as tff

# gRPC cannot send more in one message; TFF asks for as much.
_LARGEST_MESSAGE = 2 * 1000**3
_CHANNEL_OPTIONS = [
    (f"grpc.max_{kind}message_length", _LARGEST_MESSAGE) for kind in ("", "receive_", "send_")
]
_POLL_SECONDS = 0.05


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
    """
    tff.framework.set_default_context(_context(_refuse))
    port = portpicker.pick_unused_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = _start(port, threads_per_client, out)
    try:
        with grpc.insecure_channel(f"localhost:{port}", _CHANNEL_OPTIONS) as channel:
            stub = tff.framework.RemoteExecutorGrpcStub(channel)
            while not stub.is_ready:
                if process.poll() is not None:
                    raise ChildProcessError(f"TFF's worker ended with {process.returncode}: {log}")
                time.sleep(_POLL_SECONDS)
            context = _context(lambda: tff.framework.RemoteExecutor(stub))
            with tff.framework.get_context_stack().install(context):
                yield process
    finally:
        process.kill()
        process.wait()


def _start(port: int, threads: int, out: Any) -> subprocess.Popen[bytes]:
    spec = find_spec("tensorflow_federated")
    if spec is None or spec.origin is None:
        raise ChildProcessError("TFF's worker must lie in its package; got no package")
    binary = Path(spec.origin).parent / "data" / "worker_binary"
    launcher = Path(__file__).with_name("launcher.py")
    cores = len(os.sched_getaffinity(0))
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", str(launcher), str(os.getpid())),
            *(str(binary), f"--port={port}", f"--max_concurrent_computation_calls={cores}"),
        ],
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads)},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
    )


def _refuse() -> Any:
    raise RuntimeError("a TFF computation must run in a worker_context")


def _compile(computation: Any) -> Any:
    # The open runtime has the arithmetic of secure sums, and no cryptography for them.
    plain = tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
    return tff.backends.native.desugar_and_transform_to_native(plain)


def _context(make_executor: Callable[[], Any]) -> Any:
    def stack(cardinalities: dict[Any, int]) -> Any:
        executor = make_executor()
        # The worker refuses computations that do not say how many clients there are.
        executor.set_cardinalities({tff.CLIENTS: 0, **cardinalities})
        return executor

    return tff.framework.SyncExecutionContext(
        tff.framework.ResourceManagingExecutorFactory(stack),
        _compile,
        transform_args=tff.tensorflow.transform_args,
        transform_result=tff.tensorflow.transform_result,
    )
