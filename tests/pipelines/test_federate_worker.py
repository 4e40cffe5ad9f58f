import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_federated as tff

from pipelines.federate_worker import run
from tfasr.configs.federate_worker import FederateWorkerConfig
from tfasr.federated.hosts import hosts_context

pytestmark = pytest.mark.federated


def test_a_worker_computes_until_it_is_told_to_end():
    command = [sys.executable, "-m", "pipelines.cli", "federate-worker"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        port = next(
            int(found[1])
            for line in process.stdout
            if (found := re.search(rb"federate-worker: on port (\d+)", line))
        )
        successor = tff.tensorflow.computation(lambda number: number + 1, np.int32)
        with hosts_context([f"localhost:{port}"]):
            assert successor(41) == 42
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"port must be free; got port={port}"):
            run(FederateWorkerConfig(port=port))


def test_a_port_is_a_port():
    with pytest.raises(ValueError, match="port must be 0 to 65535; got port=65536"):
        FederateWorkerConfig(port=65536)
