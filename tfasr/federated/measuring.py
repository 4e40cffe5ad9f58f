"""What its share of a round costs a client, measured in a process of its own.

Run as `python -m tfasr.federated.measuring RUN FIRST`, it prints the costs of the phase of a
federated run's folder that begins after round FIRST.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import tensorflow as tf

from tfasr.artifacts.files import read_json, write_json
from tfasr.configs.federated import FederateConfig
from tfasr.data.clients import read_clients
from tfasr.federated.accounting import ClientCost
from tfasr.federated.folder import CLIENTS, COSTS, federate_config, first_plan
from tfasr.federated.launcher import tied
from tfasr.federated.optimizers import client_optimizer
from tfasr.federated.phases import Phase
from tfasr.federated.plans import later_plan
from tfasr.federated.population import client_pipeline
from tfasr.federated.process import ClientModel
from tfasr.training.run import Run

# The first step builds the graph; the median of fewer than these would be of one alone.
_LEAST_STEPS = 4


def with_costs(folder: Path, phases: Sequence[Phase]) -> list[Phase]:
    """Measures what each phase costs a client, once in a run's life.

    Args:
        folder: The run's, with its clients.
        phases: Of the run.

    Returns:
        The phases with their costs, which are in the folder too.

    Raises:
        ChildProcessError: The process that measures failed; its own words are on standard error.
    """
    path = folder / COSTS
    known = read_json(path) if path.is_file() else {}
    for phase in phases:
        if str(phase.first) not in known:
            known[str(phase.first)] = measured_apart(folder, phase.first)
            write_json(path, known)
    costs = [ClientCost(**known[str(phase.first)]) for phase in phases]
    return [replace(phase, cost=cost) for phase, cost in zip(phases, costs, strict=True)]


def measured_apart(folder: Path, first: int) -> dict[str, float]:
    """Has a process of its own measure what a phase costs a client, `ClientCost` by name.

    Args:
        folder: The run's, with its clients.
        first: Rounds done before the phase.

    Raises:
        ChildProcessError: As `with_costs`.
    """
    # Told by a package of TensorFlow Federated's on every import; users can't mend it.
    quiet = ("-W", "ignore:pkg_resources is deprecated")
    command = [sys.executable, *quiet, "-m", "tfasr.federated.measuring", str(folder), str(first)]
    # A client has a core, as in the rounds.
    threads = {f"TF_NUM_{kind}OP_THREADS": "1" for kind in ("INTRA", "INTER")}
    done = subprocess.run(
        tied(*command), env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise ChildProcessError(
            f"{folder}: what a client needs must be measurable; the process for it ended with "
            f"{done.returncode}. Leave measure out to go on without"
        )
    costs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return costs


def measure(folder: Path, first: int) -> ClientCost:
    """Makes the steps of one client in this process, and measures them.

    Args:
        folder: The run's.
        first: Rounds done before the phase.
    """
    run, config, plan = Run(folder), federate_config(folder), first_plan(folder)
    # So that what TensorFlow sets up for itself is not taken for the client's.
    tf.function(lambda: tf.ones([8, 8]) @ tf.ones([8, 8]))()
    bare = _peak_bytes()
    client = max(read_clients(folder / CLIENTS), key=lambda each: each.seconds)
    model = ClientModel(run.model_config, later_plan(plan) if first else plan)
    seconds = _steps(model, config, client_pipeline(run, config).round(client, first))
    return ClientCost(
        client=client.name,
        client_steps=len(seconds),
        client_peak_bytes=_peak_bytes() - bare,
        client_step_seconds=round(median(seconds[1:]), 4),
    )


def _steps(model: ClientModel, config: FederateConfig, batches: tf.data.Dataset) -> list[float]:
    optimizer, weights = client_optimizer(config), model.trainable_variables
    # The update is what the weights are less by than these.
    start = [tf.identity(weight) for weight in weights]
    specs = [tf.TensorSpec(weight.shape, weight.dtype) for weight in weights]
    state = tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs))

    # One graph for batches of all lengths, as TFF's worker has.
    @tf.function(
        input_signature=[
            model.input_spec,
            tf.nest.map_structure(tf.TensorSpec.from_tensor, state),
        ]
    )
    def step(batch: dict[str, tf.Tensor], state: object) -> object:
        with tf.GradientTape() as tape:
            loss = model.forward_pass(batch).loss
        gradients = tape.gradient(loss, weights)
        now = [weight.read_value() for weight in weights]
        state, moved = optimizer.next(state, now, gradients)
        for weight, value in zip(weights, moved, strict=True):
            weight.assign(value)
        return state

    seconds, waiting = [], iter(batches.repeat())
    for _ in range(max(_LEAST_STEPS, config.client_steps)):
        started = time.perf_counter()
        state = step(next(waiting), state)
        seconds.append(time.perf_counter() - started)
    _update = [first - weight for first, weight in zip(start, weights, strict=True)]
    return seconds


def _peak_bytes() -> int:
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


def main(arguments: Sequence[str]) -> None:
    """Measures a phase and prints its costs as a line of JSON."""
    folder, first = arguments
    print(json.dumps(asdict(measure(Path(folder), int(first)))))


if __name__ == "__main__":
    main(sys.argv[1:])
