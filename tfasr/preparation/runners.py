"""Where shards are written: in this process, in worker processes, or by Apache Beam."""

import importlib.util
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection

from tfasr.configs.prepare import PrepareConfig
from tfasr.preparation.shard_tasks import ShardTask

# Yields the tasks that are done.
Runner = Callable[[Sequence[ShardTask]], Iterator[ShardTask]]

# Shards for which a worker process, which loads TensorFlow for some seconds and holds 0.5 GB,
# is worth its start.
_SHARDS_A_WORKER = 32


def open_runner(config: PrepareConfig) -> Runner:
    """Chooses where the shards of a preparation are written.

    Raises:
        ModuleNotFoundError: A Beam runner is asked for, and Apache Beam is not installed.
        ValueError: There is no such Beam runner, or its options are wrong.
    """
    if config.runner == "processes":
        return partial(run_in_processes, config)
    if importlib.util.find_spec("apache_beam") is None:
        raise ModuleNotFoundError(
            f"--runner {config.runner} needs Apache Beam; pip install 'tfasr[beam]'"
        )
    # Here, not above: it is an extra, and takes seconds to load.
    from tfasr.preparation.beam_runner import BeamRunner

    return BeamRunner(config.runner, config.runner_options)


def useful_jobs(config: PrepareConfig, num_tasks: int) -> int:
    """Processes for so many shards: those asked for, else as many as are worth their start.

    At most one for every two cores: each decodes in threads of its own.
    """
    if config.jobs:
        return max(min(config.jobs, num_tasks), 1)
    # The synthetic corpus speaks in processes of its own.
    if config.corpus == "synthetic":
        return 1
    return max(min(_num_cores() // 2, num_tasks // _SHARDS_A_WORKER), 1)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))


def run_in_processes(config: PrepareConfig, tasks: Sequence[ShardTask]) -> Iterator[ShardTask]:
    """Writes shards in this process, or side by side in others; yields them in order.

    Raises:
        ValueError: As for `write_task`: the first in the order of the tasks.
        OSError: As for `write_task`, or a worker was killed.
    """
    jobs = useful_jobs(config, len(tasks))
    if jobs > 1:
        yield from _run_in_workers(tasks, jobs)
        return
    for task in tasks:
        _write(task)
        yield task


def _write(task: ShardTask) -> ShardTask:
    # Here, not above: the parent of workers does without TensorFlow and its 0.5 GB.
    from tfasr.preparation.shard_writing import write_task

    write_task(task)
    return task


def _run_in_workers(tasks: Sequence[ShardTask], jobs: int) -> Iterator[ShardTask]:
    pending: deque[tuple[ShardTask, Future[None]]] = deque()
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, spawn, _begin_worker, (max(_num_cores() // jobs, 1),)) as pool,
        _ends_workers(),
    ):
        for task in tasks:
            with _interrupts_held():
                pending.append((task, pool.submit(_work, task)))
            # A few ahead only: a task in waiting is a copy of its utterances.
            if len(pending) > 2 * jobs:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())


def _finished(task: ShardTask, future: Future[None]) -> ShardTask:
    try:
        future.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            f"a process that wrote shards like {task.name} was killed, maybe for want of memory; "
            "run the same command to go on, with fewer --jobs if it happens again"
        ) from None
    return task


@contextmanager
def _ends_workers() -> Iterator[None]:
    """Ends workers at once when the block fails, in place of letting them finish their shards."""
    others = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Starts processes that a Ctrl-C doesn't reach: this one hears it, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: ShardTask) -> None:
    _write(task)


def _begin_worker(num_threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
