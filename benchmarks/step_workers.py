"""Training steps that are taken and measured in processes of their own, on demand.

Needs nothing but the standard library, for a peer's environment has nothing of ours.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def answer_steps(
    parameters: int, step: Callable[[], float], reference: Callable[[], float] | None = None
) -> None:
    """Takes a step to build its graph, then one for each line of the input, and prints figures.

    Args:
        parameters: Of the model.
        step: Takes a step, and gives its loss when it is done.
        reference: Gives a loss by which peers are seen to compute the same; the first step's
            where there is none. It is asked for last: its memory is no step's.
    """
    first = step()
    _print(parameters=parameters, loss=first)
    for _ in sys.stdin:
        started, processor = time.perf_counter(), time.process_time()
        step()
        _print(seconds=time.perf_counter() - started, processor=time.process_time() - processor)
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    _print(gigabytes=int(kilobytes) / 1024**2, loss=reference() if reference else first)


def _print(**figures: float) -> None:
    print(json.dumps(figures), flush=True)


class StepWorker:
    """A process that runs `answer_steps`.

    Args:
        command: Its program and arguments.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.process: Any = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.parameters = 0
        self.loss = 0.0
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def start(self) -> None:
        """Waits for the first step, in which it builds its graph."""
        answer = self._answer()
        self.parameters, self.loss = int(answer["parameters"]), answer["loss"]

    def take(self) -> None:
        """Takes a step: adds its seconds, by the clock and of all processors together."""
        print(file=self.process.stdin, flush=True)
        answer = self._answer()
        self.seconds.append(answer["seconds"])
        self.processor.append(answer["processor"])

    def finish(self) -> float:
        """Ends the process and asks for its reference; gives its peak memory in gigabytes."""
        with self.process:
            self.process.stdin.close()
            answer = self._answer()
        self.loss = answer["loss"]
        return answer["gigabytes"]

    def _answer(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if not line:
            with self.process:
                raise RuntimeError("a worker must answer; it ended, and says why above")
        answer: dict[str, float] = json.loads(line)
        return answer


def take_turns(workers: Mapping[str, StepWorker], rounds: int) -> None:
    """Starts workers, and lets each in turn take a step, so many times.

    So a change of the machine's speed meets all of them.
    """
    for worker in workers.values():
        worker.start()
    for _ in range(rounds):
        for worker in workers.values():
            worker.take()
