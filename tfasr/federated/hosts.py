"""Rounds whose clients are computed on several machines."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import tensorflow_federated as tff

from tfasr.federated.connections import (
    Worker,
    WorkerLost,
    channel_to,
    installed,
    without_cryptography,
)
from tfasr.federated.workers import worker_context

ANSWER_SECONDS = 5
_COMPUTATIONS = 8


class Hosts(tff.framework.SyncContext):
    """Workers of several machines, as one context that TFF computes in.

    A computation is split where TFF's compiler says that it can be, at its aggregation: each
    worker computes a run of clients, as even as may be, up to a partial sum, and the first one
    merges the sums and computes what comes after. TFF's own `MergeableCompExecutionContext`
    waits for one worker before it asks the next, tries one that is gone for ever, and merges in
    the order of arrival, so that no two runs need come to the same sums.

    What a worker that is gone was to compute, is computed by the next: by whom, changes nothing
    in the result.

    Args:
        workers: By address.
    """

    def __init__(self, workers: dict[str, Worker]) -> None:
        self.workers = workers
        self.lost: set[str] = set()

    def invoke(self, comp: Any, arg: Any) -> Any:
        shares = split(arg, comp.type_signature.parameter, len(self.workers))
        if len(shares) == 1:
            return self._run(0, comp, arg)
        form = _mergeable(comp)
        with ThreadPoolExecutor(len(shares)) as pool:
            sums = list(
                pool.map(
                    lambda place: self._run(place, form.up_to_merge, shares[place]),
                    range(len(shares)),
                )
            )
        merged = functools.reduce(
            lambda one, other: self._run(0, form.merge, _pair(one, other)), sums
        )
        return self._run(0, form.after_merge, _pair(shares[0], merged))

    def _run(self, place: int, computation: Any, argument: Any) -> Any:
        """Computes on the worker at a place, or else on the first after it that is there."""
        addresses = [*self.workers][place:] + [*self.workers][:place]
        # Its own worker twice: one that was started anew refuses once what it does not know.
        for address in (addresses[0], *addresses):
            try:
                return self.workers[address].invoke(computation, argument)
            except WorkerLost as error:
                self.lost.add(address)
                last = error
        raise WorkerLost(
            f"workers must be there; got none of {', '.join(self.workers)}. Start them again with "
            "`tfasr federate-worker`, and run the same command to go on from the last round"
        ) from last


def split(argument: Any, kind: Any, count: int) -> list[Any]:
    """Splits a computation's argument by clients.

    Args:
        argument: As TFF packed it.
        kind: Its type; None for none.
        count: Parts to split it into.

    Returns:
        So many parts, or as many as there are clients, one at least: in each, a run of the
        clients' values, and all other values whole.
    """
    clients = _num_clients(argument, kind)
    count = max(1, min(count, clients))
    bounds = [(clients * place // count) for place in range(count + 1)]
    return [_part(argument, kind, slice(*bounds[place : place + 2])) for place in range(count)]


def _num_clients(value: Any, kind: Any) -> int:
    if isinstance(kind, tff.StructType):
        parts = zip(tff.structure.from_container(value), kind, strict=True)
        return max((_num_clients(part, each) for part, each in parts), default=0)
    return len(value) if _is_by_client(kind) else 0


def _part(value: Any, kind: Any, clients: slice) -> Any:
    if isinstance(kind, tff.StructType):
        parts = zip(tff.structure.from_container(value), kind, strict=True)
        names = [name for name, _ in tff.structure.to_elements(kind)]
        return tff.structure.Struct(
            (name, _part(part, each, clients))
            for name, (part, each) in zip(names, parts, strict=True)
        )
    return value[clients] if _is_by_client(kind) else value


def _is_by_client(kind: Any) -> bool:
    return (
        isinstance(kind, tff.FederatedType) and kind.placement is tff.CLIENTS and not kind.all_equal
    )


def _pair(one: Any, other: Any) -> Any:
    return tff.structure.Struct.unnamed(one, other)


@functools.lru_cache(_COMPUTATIONS)
def _mergeable(computation: Any) -> Any:
    return tff.backends.native.compile_to_mergeable_comp_form(without_cryptography(computation))


@contextmanager
def hosts_context(addresses: Sequence[str]) -> Iterator[Hosts]:
    """Runs TFF computations of the block on workers that others started.

    Args:
        addresses: Host and port of each.

    Yields:
        The workers, and who of them was lost.

    Raises:
        ValueError: One does not answer, or is no worker.
        WorkerLost: A computation of the block found none of them.
    """
    with ExitStack() as stack:
        workers = {}
        for address in addresses:
            channel = stack.enter_context(channel_to(address))
            workers[address] = _answering(Worker(channel, address), address)
        hosts = Hosts(workers)
        stack.enter_context(installed(hosts))
        yield hosts


@contextmanager
def computing(addresses: Sequence[str], log: Path) -> Iterator[set[str]]:
    """Runs TFF computations of the block on the given workers, or on one of our own.

    Args:
        addresses: As `hosts_context` takes them; none for one of our own.
        log: As `worker_context` takes it.

    Yields:
        Addresses of workers that were found gone; empty it to see who is from then on.

    Raises:
        ValueError: As `hosts_context`.
        WorkerLost: A computation found no worker.
    """
    if addresses:
        with hosts_context(addresses) as hosts:
            yield hosts.lost
    else:
        with worker_context(log):
            yield set()


def require_answers(addresses: Sequence[str]) -> None:
    """Refuses workers that do not answer, before anything that takes long.

    Raises:
        ValueError: One does not answer, or is no worker.
    """
    for address in addresses:
        with channel_to(address) as channel:
            _answering(Worker(channel, address), address)


def _answering(worker: Worker, address: str) -> Worker:
    port = address.rpartition(":")[2]
    start = f"Start one there with `tfasr federate-worker --port {port}`"
    try:
        if worker.answers(ANSWER_SECONDS):
            return worker
    except grpc.RpcError:
        raise ValueError(
            f"workers must be of TensorFlow Federated; got another server at {address}. {start}"
        ) from None
    raise ValueError(
        f"workers must answer; got nothing from {address} in {ANSWER_SECONDS} s. {start}, and see "
        "that the port is open"
    )
