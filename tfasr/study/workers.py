"""A study in several processes, which share a folder of results."""

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from tfasr.configs.study import StudyConfig
from tfasr.study.resets import Reset
from tfasr.study.subject import Progress, Subject

_POLL_SECONDS = 0.5


def evaluate_in_processes(subject: Subject, resets: Sequence[Reset], progress: Progress) -> None:
    """Tries the resets whose results are missing, `config.jobs` side by side.

    Args:
        subject: What is studied.
        resets: What to reset.
        progress: Called with how many of how many are done.

    Raises:
        ChildProcessError: A process failed or was killed; what it had found is kept.
    """
    # The intact model first: every process would find it missing.
    subject.evaluate([], progress)
    missing = subject.results.missing(resets)
    jobs = min(subject.config.jobs, len(missing))
    spawn = multiprocessing.get_context("spawn")
    # Low blocks cost more than high ones, so each process is given some of both.
    workers: list[BaseProcess] = [
        spawn.Process(
            target=_work,
            args=(subject.config, subject.step_asked, subject.seeds, missing[place::jobs], jobs),
            daemon=True,
        )
        for place in range(jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(_POLL_SECONDS)
            progress(len(resets) - len(subject.results.missing(resets)), len(resets))
    if any(worker.exitcode for worker in workers):
        raise ChildProcessError(
            "a process of the study failed or was killed, maybe for want of memory; run the same "
            "command to go on, with fewer --jobs if it happens again"
        )


def _work(
    config: StudyConfig, step: int, seeds: Sequence[int], resets: Sequence[Reset], jobs: int
) -> None:
    # Here, not above: threads are set before TensorFlow starts any.
    import tensorflow as tf

    threads = max(len(os.sched_getaffinity(0)) // jobs, 1)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    Subject(config, step, seeds).evaluate(resets, lambda done, total: None)
