"""What this machine can do at best, as a worker beside what is measured.

Products of square matrices, and sums of vectors that no cache holds. Each is a process of its own,
so that a thread count is its own too.
`python -m benchmarks.limits [--threads 4] [--rounds 5]` prints the rates.
"""

import argparse
import sys
from statistics import median
from typing import Any

import tensorflow as tf

from benchmarks.step_workers import StepWorker, answer_steps
from tfasr.configs.seeds import counted_seed

_ROWS = 4096  # And columns of the matrices.
_FLOATS = 1 << 26  # 256 MiB a vector.
_KINDS = ("float32", "bfloat16", "memory")

# Of a step of a worker: floating-point operations, and bytes.
OPERATIONS = 2 * _ROWS**3
# A sum in place reads both vectors and writes one.
BYTES = 3 * 4 * _FLOATS


def main() -> None:
    """Prints the rates, or is a worker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=0, help="0 for one a core")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answer", choices=_KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        set_threads(arguments.threads)
        _answer(arguments.answer)
        return
    for kind in _KINDS:
        worker = limit(kind, arguments.threads)
        worker.start()
        for _ in range(arguments.rounds):
            worker.take()
        worker.finish()
        unit, amount = ("GB", BYTES) if kind == "memory" else ("GFLOP", OPERATIONS)
        print(f"{kind:12}{amount / median(worker.seconds) / 1e9:10,.0f} {unit}/s")


def limit(kind: str, threads: int = 0) -> StepWorker:
    """Starts a worker.

    Args:
        kind: "float32" or "bfloat16" for `OPERATIONS` of products a step, "memory" for `BYTES`.
        threads: That it uses; 0 for one a core.
    """
    program = [sys.executable, "-m", "benchmarks.limits", "--answer", kind]
    return StepWorker([*program, "--threads", str(threads)])


def set_threads(threads: int, operation: int | None = None) -> None:
    """Sets how many threads TensorFlow has, and an operation where that is another number."""
    tf.config.threading.set_intra_op_parallelism_threads(operation or threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def forward_operations(model: Any, batch: int, frames: int) -> float:
    """Counts the floating-point operations of products and convolutions in a forward pass.

    Args:
        model: A model.
        batch: Utterances.
        frames: Feature frames of each.
    """
    features = tf.TensorSpec([batch, frames, model.num_mels])
    forward = tf.function(lambda x: model(x, tf.fill([batch], frames)), [features], autograph=False)
    counted = ("MatMul", "BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative")
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    )
    options = options.with_empty_output().with_accounted_types(list(counted)).build()
    graph = forward.get_concrete_function().graph
    found = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    return float(found.total_float_ops)


def _answer(kind: str) -> None:
    seed = counted_seed(0, "benchmarks.limits")
    if kind == "memory":
        noise = tf.random.stateless_normal([_FLOATS], seed)
        total = tf.Variable(noise)
        add = tf.function(lambda: total.assign_add(noise)[0], autograph=False)
        answer_steps(0, lambda: float(add()))
        return
    dtype = {"float32": tf.float32, "bfloat16": tf.bfloat16}[kind]
    matrix = tf.cast(tf.random.stateless_normal([_ROWS, _ROWS], seed), dtype)
    product = tf.function(lambda: matrix @ matrix)
    answer_steps(0, lambda: float(product()[0, 0]))


if __name__ == "__main__":
    main()
