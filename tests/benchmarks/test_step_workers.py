import sys

import pytest

from benchmarks.step_workers import StepWorker, take_turns

# Its steps have losses 1, 2, and so on; a reference takes the next of them.
COUNTING = """
from itertools import count
from benchmarks.step_workers import answer_steps
losses = count(1)
answer_steps(7, lambda: float(next(losses)), {reference})
"""


def counting(reference):
    return StepWorker([sys.executable, "-c", COUNTING.format(reference=reference)])


def test_the_reference_is_asked_for_after_the_last_step():
    worker = counting("lambda: 100.0 + next(losses)")
    take_turns({"one": worker}, 3)
    assert (worker.parameters, worker.loss) == (7, 1.0)
    assert len(worker.seconds) == len(worker.processor) == 3
    assert 0 < worker.finish() < 1
    assert worker.loss == 105.0


def test_without_a_reference_the_first_steps_loss_stands():
    worker = counting("None")
    take_turns({"one": worker}, 2)
    worker.finish()
    assert worker.loss == 1.0


def test_a_worker_that_ends_is_said():
    worker = StepWorker([sys.executable, "-c", ""])
    with pytest.raises(RuntimeError, match="it ended, and says why above"):
        worker.start()
