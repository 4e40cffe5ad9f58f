"""How many threads an operation of TensorFlow takes."""

import contextlib

import tensorflow as tf


def take_one_thread_an_operation() -> None:
    """Leaves the processors to several graphs side by side.

    Threads of one operation wait for each other, and small operations gain nothing of them.
    """
    # Where TensorFlow has begun already, that wait is all there is to it.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
