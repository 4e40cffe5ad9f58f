"""`tfasr data-service`: makes a training's batches on this host."""

import signal
import threading
from typing import Any

import tensorflow as tf

from pipelines.ports import require_free
from tfasr.configs.data_service import DataServiceConfig
from tfasr.data.service import require_dispatcher

_service = tf.data.experimental.service


def run(config: DataServiceConfig) -> None:
    """Serves until it is interrupted or told to end."""
    require_free(config.port)
    if config.role == "worker":
        require_dispatcher(config.dispatcher)
    ended = threading.Event()
    server, port = _start(config)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: ended.set())
    print(f"data-service: {config.role} on port {port}; Ctrl-C ends it", flush=True)
    ended.wait()
    server._stop()


def _start(config: DataServiceConfig) -> tuple[Any, int]:
    if config.role == "dispatcher":
        dispatcher = _service.DispatchServer(_service.DispatcherConfig(port=config.port))
        return dispatcher, int(dispatcher.target.rpartition(":")[2])
    address = f"{config.host}:{config.port}" if config.port else f"{config.host}:%port%"
    worker = _service.WorkerServer(
        _service.WorkerConfig(
            dispatcher_address=config.dispatcher, worker_address=address, port=config.port
        )
    )
    return worker, config.port or int(worker._address.rpartition(":")[2])
