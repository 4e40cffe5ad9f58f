"""A federated round of Flower's simulation on Ray, with as many actors as there are cores.

A worker of `benchmarks.federated`, for the interpreter of Flower's own environment.
`python -m benchmarks.flwr_rounds FOLDER CLIENTS`
"""

import logging
import os
import sys
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

# Read when they are imported. Both would report to their makers, and Ray's actors would stand back
# behind all other work of the machine.
os.environ |= {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.step_workers import answer_steps
from benchmarks.torch_clients import client_loss, client_tensors, read_case
from benchmarks.torch_conformer_step import Conformer, load_weights


@lru_cache
def actor_model(folder: Path) -> Conformer:
    """Makes an actor's model, once, for what the clients are sent replaces its weights."""
    torch.set_num_threads(1)
    return Conformer(read_case(folder), 0.0)


def train(message: Message, context: Context, folder: Path) -> Message:
    """Trains a client's model on its steps."""
    case, model = read_case(folder), actor_model(folder)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), case["learning_rate"])
    features, tokens = client_tensors(folder, int(context.node_config["partition-id"]))
    losses = []
    for batch in zip(features, tokens, strict=True):
        optimizer.zero_grad()
        loss = client_loss(model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), case["clip_norm"])
        optimizer.step()
        losses.append(loss.item())
    figures = {"loss": sum(losses) / len(losses), "num-examples": len(losses) * case["batch"]}
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(figures)}
    return Message(content=RecordDict(content), reply_to=message)


def serve(grid: Grid, folder: Path, number: int) -> None:
    """Answers with rounds."""
    model = Conformer(read_case(folder), 0.0)
    load_weights(model, folder / "weights.npz")
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=number, min_available_nodes=number)
    state: dict[str, Any] = {"arrays": ArrayRecord(model.state_dict())}
    rounds = count(1)

    def take() -> float:
        this = next(rounds)
        messages = strategy.configure_train(this, state["arrays"], ConfigRecord(), grid)
        arrays, metrics = strategy.aggregate_train(this, grid.send_and_receive(messages))
        if arrays is None or metrics is None:
            raise RuntimeError("some client must answer; got none, and says why above")
        state["arrays"] = arrays
        return float(metrics["loss"])

    answer_steps(sum(p.numel() for p in model.parameters()), take)


def main() -> None:
    """Runs the simulation."""
    folder, number = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server, client = ServerApp(), ClientApp()

    @server.main()
    def serving(grid: Grid, context: Context) -> None:
        serve(grid, folder, number)

    @client.train()
    def training(message: Message, context: Context) -> Message:
        # Not this module's, of which Ray would send each actor a copy with every call.
        from benchmarks import flwr_rounds

        return flwr_rounds.train(message, context, folder)

    cores = len(os.sched_getaffinity(0))
    backend = {
        "init_args": {"num_cpus": cores, "log_to_driver": False, "include_dashboard": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    run_simulation(server, client, num_supernodes=number, backend_config=backend)


if __name__ == "__main__":
    main()
