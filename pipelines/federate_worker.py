"""`tfasr federate-worker`: computes clients of federated rounds on this host."""

import signal

from pipelines.ports import require_free
from tfasr.configs.federate_worker import FederateWorkerConfig
from tfasr.federated.workers import started_worker


def run(config: FederateWorkerConfig) -> None:
    """Computes until it is interrupted or told to end.

    Raises:
        ChildProcessError: The worker ended by itself.
    """
    require_free(config.port)
    ended = False

    def end(number: int, frame: object) -> None:
        nonlocal ended
        ended = True
        process.kill()

    with started_worker(config.port) as (process, port):
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, end)
        print(f"federate-worker: on port {port}; Ctrl-C ends it", flush=True)
        status = process.wait()
    if not ended:
        raise ChildProcessError(f"TFF's worker ended with status {status}; start it again")
