"""What does a federated round cost beside its client steps, and beside other frameworks?

A Conformer with CTC of 1.7 million parameters, group norm and no dropout; each client has 4 steps
of 8 utterances of 2 s, clipped SGD, and the server the mean of their updates. A round as
`tfasr federate` runs it, its data pipeline included, stands beside the same client steps in a bare
`tf.function`, in as many threads as there are cores; and a client step of a model without half of
its feed-forward units beside one of the full model. Then a round on ready features stands beside
those of pfl (PyTorch, as many processes as cores) and Flower (its simulation on Ray, as many actors
as cores), with the same model, weights, clients and steps; all must come to the same mean loss.
All take their rounds in turn, so that a change of the machine's speed meets all; a ratio is the
median of the turns', and of several numbers of clients the worst counts. Memory is that of all
processes together, shared pages counted once, at its peak in a turn of its own. Peers have
environments of their own in `--peers`, made when they are missing; where that cannot be, the table
leaves them out. Linux only.
`python -m benchmarks.federated [--clients 8,32] [--rounds 7] [--json]`
"""

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.federated_rounds import MODEL, STEPS, federate_config, write_case
from benchmarks.peers import FLOWER, PFL, Peer
from benchmarks.step_workers import StepWorker, take_turns
from tfasr.federated.accounting import FLOAT_BYTES, Account, account
from tfasr.federated.plans import client_plan
from tfasr.models.layout import layout_without_weights

BETTER = {
    "round_vs_bare": "lower",
    "half_ffn_step_ratio": "lower",
    "clients_per_second_vs_pfl": "higher",
    "clients_per_second_vs_flwr": "higher",
}

_OURS = [sys.executable, "-m", "benchmarks.federated_rounds"]
_PEERS: dict[str, tuple[Peer, str]] = {
    "pfl": (PFL, "benchmarks.pfl_rounds"),
    "flwr": (FLOWER, "benchmarks.flwr_rounds"),
}
_FEW = 8  # Clients of a round whose own cost is measured.
_AGREEMENT = 1e-3  # Relative, of mean losses over a round: its steps amplify rounding.
_SAMPLE_SECONDS = 0.1


def main() -> None:
    """Measures, prints the tables and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", default="8,32", help="of a round beside peers, by commas")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--peers", type=Path, default=Path("work/peers"), help="environments")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.clients.split(",")]
    pythons = {
        name: (peer.python(arguments.peers), module) for name, (peer, module) in _PEERS.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), max(_FEW, *sizes))
        figures = _cost(folder, arguments.rounds)
        for size in sizes:
            figures |= _beside_peers(folder, size, pythons, arguments.rounds)
    for name in _PEERS:
        found = [figures[f"clients_per_second_vs_{name}_{size}"] for size in sizes]
        known = [ratio for ratio in found if ratio is not None]
        figures[f"clients_per_second_vs_{name}"] = min(known, default=None)
    if arguments.json:
        print(json.dumps(figures))


def _cost(folder: str, turns: int) -> dict[str, float | None]:
    """What a round takes beside its steps, and a smaller client beside a full one."""
    kinds = ("round", "bare", "round-half", "bare-half")
    workers = {kind: StepWorker([*_OURS, folder, kind, str(_FEW)]) for kind in kinds}
    take_turns(workers, turns)
    gigabytes = _peaks(workers)
    sizes = {kind: _account(Path(folder), kind) for kind in ("round", "round-half")}
    for ending in ("", "-half"):
        held, counted = workers[f"bare{ending}"].parameters, sizes[f"round{ending}"]
        if (counted.bytes_down, counted.bytes_up) != (FLOAT_BYTES * held, FLOAT_BYTES * (held + 1)):
            raise RuntimeError(
                "a client must be sent its weights and return their update and one weight of it; "
                f"it has {held} of them, and {counted} is counted"
            )
    _tell(f"a round of {_FEW} clients, {STEPS} steps each", workers, gigabytes, _FEW)
    print(f"{'':20}parameters    bytes down      bytes up, a client")
    for kind, size in sizes.items():
        print(f"{kind:16}{size.parameters_client:14,}{size.bytes_down:14,}{size.bytes_up:14,}")
    return {
        "round_vs_bare": _ratio(workers["round"], workers["bare"]),
        "round_half_vs_bare_half": _ratio(workers["round-half"], workers["bare-half"]),
        "half_ffn_step_ratio": _ratio(workers["bare-half"], workers["bare"]),
        "half_ffn_round_ratio": _ratio(workers["round-half"], workers["round"]),
        "half_ffn_bytes_ratio": sizes["round-half"].bytes_down / sizes["round"].bytes_down,
    }


def _account(folder: Path, kind: str) -> Account:
    plan = client_plan(federate_config(folder, kind).plan, MODEL)
    return account(layout_without_weights(MODEL), layout_without_weights(MODEL, plan.units), plan)


def _beside_peers(
    folder: str, size: int, pythons: dict[str, tuple[str | None, str]], turns: int
) -> dict[str, float | None]:
    """How many clients a second we do by what peers do."""
    workers = {"ours": StepWorker([*_OURS, folder, "tensors", str(size)])}
    for name, (python, module) in pythons.items():
        if python:
            workers[name] = StepWorker([python, "-m", module, folder, str(size)])
    take_turns(workers, turns)
    gigabytes = _peaks(workers)
    _check(workers)
    _tell(f"{size} clients a round, from features", workers, gigabytes, size)
    figures: dict[str, float | None] = {}
    for name in pythons:
        peer = workers.get(name)
        faster = None if peer is None else _ratio(peer, workers["ours"])
        figures[f"clients_per_second_vs_{name}_{size}"] = faster
        share = None if peer is None else gigabytes["ours"] / gigabytes[name]
        figures[f"memory_vs_{name}_{size}"] = share
    return figures


def _peaks(workers: dict[str, StepWorker]) -> dict[str, float]:
    """Gives the peak gigabytes of each in one more turn, and ends them."""
    gigabytes = {name: _peak(worker.process.pid, worker.take) for name, worker in workers.items()}
    for worker in workers.values():
        # The one in which memory was looked through.
        worker.seconds.pop()
        worker.finish()
    return gigabytes


def _peak(process: int, work: Callable[[], None]) -> float:
    """Gives the most gigabytes that a process and all under it hold during some work."""
    done, found = threading.Event(), [_held(process)]

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            found.append(_held(process))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return max(found)


def _held(process: int) -> float:
    """Gigabytes of a process and all under it; a page that n of them share is an nth of each."""
    parents, kilobytes = {}, 0
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at.
        with suppress(OSError):
            after_name = (folder / "stat").read_text().rpartition(")")[2]
            parents[int(folder.name)] = int(after_name.split()[1])
    own = {process}
    while grown := {child for child, parent in parents.items() if parent in own} - own:
        own |= grown
    for one in own:
        with suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024**2


def _check(workers: dict[str, StepWorker]) -> None:
    """Refuses peers that compute something else."""
    expected = workers["ours"]
    for name, worker in workers.items():
        apart = abs(worker.loss / expected.loss - 1)
        if worker.parameters != expected.parameters or apart > _AGREEMENT:
            raise RuntimeError(
                f"all must have {expected.parameters} parameters and a loss of {expected.loss}; "
                f"got {worker.parameters} and {worker.loss} of {name}"
            )


def _ratio(one: StepWorker, other: StepWorker) -> float:
    """Seconds of one by those of another, the median of the turns."""
    return median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def _tell(
    title: str, workers: dict[str, StepWorker], gigabytes: dict[str, float], clients: int
) -> None:
    print(f"{title}\n{'':16}s a round (least to most)   clients a s   peak GB")
    for name, worker in workers.items():
        seconds = median(worker.seconds)
        spread = f"{min(worker.seconds):.3f} to {max(worker.seconds):.3f}"
        print(
            f"{name:16}{seconds:9.3f} ({spread:16}) {clients / seconds:12.1f}"
            f"{gigabytes[name]:10.2f}"
        )


if __name__ == "__main__":
    main()
