"""One process of those that take federated rounds of pfl together, on PyTorch.

Started by `benchmarks.pfl_rounds`; the first of them is told when to take a round, and lets the
others into it.
"""

import sys
from itertools import count
from pathlib import Path
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel

from benchmarks.step_workers import answer_steps
from benchmarks.torch_clients import client_loss, client_tensors, read_case
from benchmarks.torch_conformer_step import Conformer, load_weights


class Model(Conformer):
    """The Conformer as pfl trains it, which keeps its losses."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__(case, 0.0)
        self.losses: list[float] = []

    def loss(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        self.train()
        loss = client_loss(self, features, tokens)
        self.losses.append(loss.item())
        return loss

    def metrics(self, features: torch.Tensor, tokens: torch.Tensor, eval: bool = True) -> Any:
        """Nothing: pfl wants to evaluate clients in the first round."""
        return {}


def main() -> None:
    """Answers with rounds, or takes part in them."""
    torch.set_num_threads(1)
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    case = read_case(folder)
    module = Model(case)
    load_weights(module, folder / "weights.npz")
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    order = count()
    clients = FederatedDataset(
        lambda client: Dataset([part.flatten(0, 1) for part in client_tensors(folder, client)]),
        lambda: next(order) % number,
    )
    backend = SimulatedBackend(clients, clients, [WeightByDatapoints()])
    algorithm = FederatedAveraging()
    training = NNTrainHyperParams(
        local_num_epochs=1,
        local_learning_rate=case["learning_rate"],
        local_batch_size=case["batch"],
        local_max_grad_norm=case["clip_norm"],
    )
    rounds = count(1)

    def take() -> float:
        module.losses.clear()
        # pfl counts what it has done, and goes on from there.
        settings = NNAlgorithmParams(
            central_num_iterations=next(rounds),
            evaluation_frequency=sys.maxsize,
            train_cohort_size=number,
            val_cohort_size=None,
        )
        algorithm.run(settings, backend, model, training, send_metrics_to_platform=False)
        sums = torch.tensor([sum(module.losses), len(module.losses)])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        return float(sums[0] / sums[1])

    if not torch.distributed.is_initialized():
        answer_steps(sum(p.numel() for p in module.parameters()), take)
    elif torch.distributed.get_rank():
        while _goes_on(False):
            take()
    else:
        answer_steps(
            sum(p.numel() for p in module.parameters()), lambda: take() if _goes_on(True) else 0.0
        )
        torch.distributed.broadcast(torch.tensor(0), 0)


def _goes_on(goes: bool) -> bool:
    """Tells all processes, if this is the first, or is told, whether there is another round."""
    word = torch.tensor(int(goes))
    torch.distributed.broadcast(word, 0)
    return bool(word)


if __name__ == "__main__":
    main()
