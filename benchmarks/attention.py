"""What does ProbSparse attention save beside the dense one, in time and in memory?

Forward and backward, one utterance, width 256, four heads. Times are taken in one process, in
turn, so that a change of the machine's speed meets both; memory by one process a case, as the
growth of its peak over that of a 16-frame call. Dense attention is left out at 8000 frames,
where it would take four times what it takes at 4000. Linux only.
`python -m benchmarks.attention [--json]`
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import tensorflow as tf

from tfasr.configs.seeds import counted_generator
from tfasr.models.attention import RelativeAttention
from tfasr.models.sparse_attention import ProbSparseAttention

BETTER = {"time_ratio_4000": "higher", "memory_ratio_4000": "higher", "time_exponent": "lower"}

_LAYERS = {"dense": RelativeAttention, "sparse": ProbSparseAttention}
_NUM_FRAMES = (250, 500, 1000, 2000, 4000, 8000)
_DENSE_LIMIT = 4000
_WIDTH = 256
_HEADS = 4
_REPEATS = 7

Step = Callable[[tf.Tensor], list[tf.Tensor]]


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    cases = [
        (name, num_frames)
        for num_frames in _NUM_FRAMES
        for name in _LAYERS
        if name == "sparse" or num_frames <= _DENSE_LIMIT
    ]
    milliseconds, megabytes = _milliseconds(cases), _megabytes(cases)
    print("frames    dense ms   sparse ms   times    dense MB   sparse MB   times")
    for num_frames in _NUM_FRAMES:
        columns = [_columns(figures, num_frames) for figures in (milliseconds, megabytes)]
        print(f"{num_frames:6d}" + "".join(columns))
    sparse = [milliseconds["sparse", num_frames] for num_frames in _NUM_FRAMES]
    exponent = float(np.polyfit(np.log(_NUM_FRAMES), np.log(sparse), 1)[0])
    print(f"sparse time grows as frames to the power of {exponent:.2f}")
    if arguments.json:
        figures = {
            "time_ratio_4000": milliseconds["dense", 4000] / milliseconds["sparse", 4000],
            "memory_ratio_4000": megabytes["dense", 4000] / megabytes["sparse", 4000],
            "time_exponent": exponent,
        }
        print(json.dumps(figures))


def _columns(figures: dict[tuple[str, int], float], num_frames: int) -> str:
    sparse = figures["sparse", num_frames]
    if num_frames > _DENSE_LIMIT:
        return f"{'-':>12}{sparse:12.1f}{'-':>8}"
    dense = figures["dense", num_frames]
    return f"{dense:12.1f}{sparse:12.1f}{dense / sparse:8.1f}"


def _milliseconds(cases: list[tuple[str, int]]) -> dict[tuple[str, int], float]:
    steps = {name: _step(name) for name in _LAYERS}
    for name, num_frames in cases:
        steps[name](_features(num_frames))
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(_REPEATS):
        for name, num_frames in cases:
            features = _features(num_frames)
            started = time.perf_counter()
            for gradient in steps[name](features):
                gradient.numpy()
            taken[name, num_frames].append(time.perf_counter() - started)
    return {case: 1000 * median(times) for case, times in taken.items()}


def _megabytes(cases: list[tuple[str, int]]) -> dict[tuple[str, int], float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return {case: pool.submit(_peak_growth, *case).result() for case in cases}


def _peak_growth(name: str, num_frames: int) -> float:
    step = _step(name)
    step(_features(16))
    baseline = _peak_megabytes()
    step(_features(num_frames))
    return _peak_megabytes() - baseline


def _peak_megabytes() -> float:
    # A child's `ru_maxrss` starts from its parent's.
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def _step(name: str) -> Step:
    layer = _LAYERS[name](_HEADS)
    layer.build(tf.TensorShape([None, None, _WIDTH]))

    def gradients(features: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(layer(features) * features)
        result: list[tf.Tensor] = tape.gradient(loss, [features, *layer.trainable_weights])
        return result

    signature = [tf.TensorSpec([1, None, _WIDTH])]
    graph: Step = tf.function(gradients, input_signature=signature, autograph=False)
    return graph


def _features(num_frames: int) -> tf.Tensor:
    generator = counted_generator(0, "benchmarks.attention", num_frames)
    return tf.constant(generator.standard_normal([1, num_frames, _WIDTH], np.float32))


if __name__ == "__main__":
    main()
