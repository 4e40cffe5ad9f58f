"""A federated round of pfl, on PyTorch, in as many processes as there are cores.

A worker of `benchmarks.federated`, for the interpreter of pfl's own environment. pfl reads a
process's rank from its environment when it is imported, so that all are started from here; the
first has this one's input and output.
`python -m benchmarks.pfl_rounds FOLDER CLIENTS`
"""

import os
import socket
import subprocess
import sys


def main() -> None:
    """Starts the processes, and waits for them."""
    ranks = range(len(os.sched_getaffinity(0)))
    command = [sys.executable, "-m", "benchmarks.pfl_worker", *sys.argv[1:]]
    if len(ranks) == 1:
        sys.exit(subprocess.run(command).returncode)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "PFL_WORKER_ADDRESSES": ",".join([f"localhost:{port}"] * len(ranks))}
    processes = []
    for rank in ranks:
        own = {**shared, "PFL_WORKER_RANK": str(rank)}
        end = subprocess.DEVNULL if rank else None
        processes.append(subprocess.Popen(command, env=own, stdin=end, stdout=end))
    sys.exit(max(abs(process.wait()) for process in processes))


if __name__ == "__main__":
    main()
