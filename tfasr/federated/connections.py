"""Connections to TFF's workers, on this machine or on others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import grpc
import tensorflow_federated as tff

# gRPC cannot send more in one message; TFF asks for as much.
_LARGEST_MESSAGE = 2 * 1000**3
# A worker takes it for abuse when it is asked more often than every five minutes whether it is
# still there; a process that ends is noticed at once, a machine that vanishes by this.
_KEEPALIVE_MILLISECONDS = 310_000
_CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
    *((f"grpc.max_{kind}message_length", _LARGEST_MESSAGE) for kind in ("", "receive_", "send_")),
]
# The second is what a worker says that was started anew: it knows nothing of before.
_GONE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)

# A run has a dozen: a process, its parts where it is split, what makes its first state.
_COMPUTATIONS = 32
_compiling = threading.Lock()


class WorkerLost(ConnectionError, grpc.RpcError):
    """A worker ended or can't be reached any more; TFF itself would try again for ever."""


class _Watched(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, told: str) -> None:
        self.told = told
        self.patience: float | None = None

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        if self.patience is not None:
            details = details._replace(timeout=self.patience, wait_for_ready=True)
        call = continuation(details, request)
        if call.code() in _GONE:
            raise WorkerLost(f"{self.told} ({call.details()})")
        return call


class Worker(tff.framework.SyncContext):
    """A worker at the other end of a channel, as a context that TFF computes in.

    Args:
        channel: To it.
        told: What is said when it is lost.

    Raises:
        WorkerLost: In a computation: the worker is gone. Should it come back, the next one finds
            it there.
    """

    def __init__(self, channel: grpc.Channel, told: str) -> None:
        self._watched = _Watched(told)
        watched = grpc.intercept_channel(channel, self._watched)
        # TFF subscribes to the channel's state, which nobody reads here; and a thread of gRPC's
        # that looks after it fails where the channel is closed meanwhile.
        watched.subscribe = lambda *arguments, **settings: None
        self._stub = tff.framework.RemoteExecutorGrpcStub(watched)
        self._context = self._make_context()

    def invoke(self, comp: Any, arg: Any) -> Any:
        try:
            return self._context.invoke(comp, arg)
        except WorkerLost:
            # It keeps handles of what the worker held, one for each number of clients.
            self._context = self._make_context()
            raise

    def answers(self, seconds: float) -> bool:
        """Whether it answers within so many seconds, of which it may need some to start.

        Raises:
            grpc.RpcError: What answers is no worker of TFF's.
        """
        self._watched.patience = seconds
        executor = tff.framework.RemoteExecutor(self._stub)
        try:
            executor.set_cardinalities({tff.CLIENTS: 0})
            executor.close()
        except WorkerLost:
            return False
        finally:
            self._watched.patience = None
        return True

    def _make_context(self) -> Any:
        return make_context(lambda: tff.framework.RemoteExecutor(self._stub))


def make_context(make_executor: Callable[[], Any]) -> Any:
    """Makes a context that TFF computes in.

    Args:
        make_executor: Makes what computes.
    """

    def stack(cardinalities: dict[Any, int]) -> Any:
        executor = make_executor()
        # The worker refuses computations that do not say how many clients there are.
        executor.set_cardinalities({tff.CLIENTS: 0, **cardinalities})
        return executor

    return tff.framework.SyncExecutionContext(
        tff.framework.ResourceManagingExecutorFactory(stack),
        compile_native,
        transform_args=tff.tensorflow.transform_args,
        transform_result=tff.tensorflow.transform_result,
    )


def without_cryptography(computation: Any) -> Any:
    """Puts plain sums for secure ones: the open runtime has their arithmetic alone."""
    proto = tff.framework.ConcreteComputation.get_proto(computation)
    if b"federated_secure" not in proto.SerializeToString():
        return computation
    plain = tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
    # It forgets what Python's own classes the result's structures are.
    return tff.framework.ConcreteComputation.with_type(plain, computation.type_signature)


def compile_native(computation: Any) -> Any:
    """Turns a computation into one that a worker runs, once for all workers."""
    with _compiling:
        return _compiled(computation)


@lru_cache(_COMPUTATIONS)
def _compiled(computation: Any) -> Any:
    # `desugar_and_transform_to_native` without its pass of Grappler, which took two thirds of the
    # time to the first round and made no round faster.
    block = without_cryptography(computation).to_building_block()
    block, _ = tff.tensorflow.replace_intrinsics_with_bodies(block)
    bodies = tff.framework.ConcreteComputation(
        computation_proto=block.proto, context_stack=tff.framework.get_context_stack()
    )
    return tff.backends.native.transform_to_native_form(bodies)


@contextmanager
def channel_to(address: str) -> Iterator[grpc.Channel]:
    """Opens a channel for messages as large as gRPC sends."""
    with grpc.insecure_channel(address, _CHANNEL_OPTIONS) as channel:
        yield channel


@contextmanager
def installed(context: Any) -> Iterator[None]:
    """Runs TFF computations of the block in a context, and refuses them outside from then on.

    TFF's own runtime would start a worker of 1 to 2 GB that often outlives Python.
    """
    refusing = make_context(_refuse)
    tff.framework.set_default_context(refusing)
    with tff.framework.get_context_stack().install(context):
        yield


def _refuse() -> Any:
    raise RuntimeError("a TFF computation must run in a worker_context or hosts_context")
