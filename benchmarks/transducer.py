"""What does the small transducer's training step take beside TensorFlowASR's?

Forward, backward and Adam from waveforms, 8 utterances of 10 s and 40 tokens: of the preset
`conformer_s_transducer`, with float32 and with bfloat16 products, and of TensorFlowASR's model of
the same size. Ours takes the steps of `tfasr train`, a batch in four parts side by side
(`optimizer.parallel`); for its memory it is measured whole too. Each has a process of its own. They
take their steps in turn, so that a change of the machine's speed meets all, and a ratio is the
median of the rounds' ratios. Seconds of processors, all cores together, hang less on what else the
machine does. Memory is the process's peak, its start and its graph included. TensorFlowASR has an
environment of its own in `--peers`, made when it is missing; where that cannot be, the table says
so. Linux only.
`python -m benchmarks.transducer [--rounds N] [--json]`
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers import TENSORFLOWASR
from benchmarks.step_workers import StepWorker, answer_steps
from tfasr.configs.features import FbankConfig
from tfasr.configs.presets import CONFORMER_S_TRANSDUCER
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.configs.training import OptimizerConfig, TrainConfig
from tfasr.features.fbank import fbank
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.training.optimizer import make_optimizer
from tfasr.training.steps import Batch, Steps

BETTER = {"step_vs_tensorflowasr": "higher", "memory_vs_tensorflowasr": "higher"}

_BATCH, _SECONDS, _TOKENS, _RATE = 8, 10, 40, 16000
_PARALLEL = 4
_WHOLE = " whole"
_FLOAT32, _BFLOAT16, _PEER = "ours, float32", "ours, bfloat16", "TensorFlowASR"
_PRECISIONS: dict[str, Any] = {_FLOAT32: "float32", _BFLOAT16: "mixed_bfloat16"}


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line; or is a worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=Path("work/peers"), help="environments")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--take", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.take:
        name, folder = arguments.take
        parallel = 1 if name.endswith(_WHOLE) else _PARALLEL
        _answer(_PRECISIONS[name.removesuffix(_WHOLE)], parallel, Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write_batch(Path(folder))
        workers = _workers(arguments.peers, folder)
        for worker in workers.values():
            worker.start()
        for _ in range(arguments.rounds):
            for worker in workers.values():
                worker.take()
        gigabytes = {name: worker.finish() for name, worker in workers.items()}
    print(f"{'':22}parameters   s a step (least to most)   processor s   peak GB")
    for name, worker in workers.items():
        spread = f"{min(worker.seconds):.2f} to {max(worker.seconds):.2f}"
        print(
            f"{name:22}{worker.parameters:10,d} {median(worker.seconds):8.2f} ({spread:16})"
            f"{median(worker.processor):14.2f}{gigabytes[name]:10.2f}"
        )
    figures = _figures(workers, gigabytes)
    if _PEER not in workers:
        print(f"{_PEER:15}can't be installed")
    if arguments.json:
        print(json.dumps(figures))


def _figures(
    workers: dict[str, StepWorker], gigabytes: dict[str, float]
) -> dict[str, float | None]:
    """How many times what ours takes TensorFlowASR takes; None where it is not installed."""
    figures: dict[str, float | None] = {}
    for name, ending in ((_FLOAT32, ""), (_BFLOAT16, "_bfloat16")):
        step = processor = memory = None
        if _PEER in workers:
            ours, theirs = workers[name], workers[_PEER]
            step = _ratio(theirs.seconds, ours.seconds)
            processor = _ratio(theirs.processor, ours.processor)
            memory = gigabytes[_PEER] / gigabytes[name + _WHOLE]
        figures[f"step_vs_tensorflowasr{ending}"] = step
        figures[f"processor_vs_tensorflowasr{ending}"] = processor
        figures[f"memory_vs_tensorflowasr{ending}"] = memory
    return figures


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return median(one / other for one, other in zip(theirs, ours, strict=True))


def _write_batch(folder: Path) -> None:
    generator = counted_generator(0, "benchmarks.transducer")
    waveforms = 0.1 * generator.standard_normal([_BATCH, _SECONDS * _RATE], np.float32)
    tokens = generator.integers(0, CONFORMER_S_TRANSDUCER.vocabulary, [_BATCH, _TOKENS], np.int32)
    np.save(folder / "waveforms.npy", waveforms)
    np.save(folder / "tokens.npy", tokens)


def _workers(peers: Path, folder: str) -> dict[str, StepWorker]:
    workers = {
        name: StepWorker([sys.executable, "-m", "benchmarks.transducer", "--take", name, folder])
        for precision in _PRECISIONS
        for name in (precision, precision + _WHOLE)
    }
    python = TENSORFLOWASR.python(peers)
    if python is not None:
        program = "benchmarks.tensorflowasr_step"
        workers[_PEER] = StepWorker([python, "-m", program, folder, "transducer"])
    return workers


def _answer(precision: Any, parallel: int, folder: Path) -> None:
    """Answers with the steps of our model."""
    if parallel > 1:
        # As `tfasr train` does.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    config, settings = CONFORMER_S_TRANSDUCER, OptimizerConfig(average=0.0, parallel=parallel)
    model = build_model(config, precision=precision)
    layout = Layout(model)
    initialize(layout, 0)
    optimizer = make_optimizer(settings)
    optimizer.build(model.trainable_variables)
    train = TrainConfig(data=folder, run=folder, model=config, optimizer=settings)
    steps, seed = Steps(model, model, optimizer, train), counted_seed(0, "benchmarks.transducer")
    waveforms, tokens = (np.load(folder / f"{part}.npy") for part in ("waveforms", "tokens"))
    features_of = tf.function(lambda waveforms: fbank(waveforms, FbankConfig()), autograph=False)

    def step() -> float:
        features = features_of(waveforms)
        batch: Batch = {
            "features": features,
            "num_frames": tf.fill([_BATCH], features.shape[1]),
            "tokens": tf.constant(tokens),
            "num_tokens": tf.fill([_BATCH], _TOKENS),
        }
        return steps.take([batch], [seed]).loss

    answer_steps(layout.parameters(), step)


if __name__ == "__main__":
    main()
