"""`tfasr data-service`: makes a training's batches on this host."""

import signal
import threading

import tensorflow as tf

from tfasr.configs.data_service import DataServiceConfig

_service = tf.data.experimental.service


def run(config: DataServiceConfig) -> None:
    """Serves until it is interrupted or told to end."""
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: ended.set())
    try:
        server, port = _start(config)
    except (tf.errors.OpError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"port must be free; got port={config.port}: {reason}") from None
    print(f"data-service: {config.role} on port {port}; Ctrl-C ends it", flush=True)
    ended.wait()
    server._stop()


def _start(config: DataServiceConfig) -> tuple[tf.data.experimental.service.DispatchServer, int]:
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
