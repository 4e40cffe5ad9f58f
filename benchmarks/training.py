"""What does a training step of a Conformer with CTC take beside PyTorch's and the machine's limit?

Forward, backward and Adam, with dropout, of `conformer_s`, `_m` and `_l` on 8 utterances (of the
largest, 6) of 10 s and 40 tokens, from features; in float32 and with bfloat16 products; beside a
PyTorch module with the same weights, eager and compiled, and for the small one TensorFlowASR's.
Ours takes a batch in parts side by side (`optimizer.parallel`), one a processor. It is measured
whole too, for its memory, and with blocks that are computed twice (`recompute`). Each has a process
of its own, and all must come to the same loss on the batch without dropout (TensorFlowASR has
weights of its own). Those of one sitting take their steps in turn, so that a change of the
machine's speed meets all: peers beside ours of one size and precision, and then ours whole. A
ratio is the median of the rounds', against the faster of PyTorch's two. The limits are the best
rates of matrix products and of memory, measured in the same rounds; a step's share counts the
floating-point operations of products and convolutions, the backward pass for twice the forward
one. Memory is a process's peak, its start and its graph included. Peers have environments of their
own in `--peers`, made when they are missing, where that of PyTorch also keeps what it compiled;
where that cannot be, the table leaves them out. Linux only.
`python -m benchmarks.training [--sizes s,m,l] [--rounds 5] [--json]`
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.limits import BYTES, OPERATIONS, forward_operations, limit
from benchmarks.peers import TENSORFLOWASR, TORCH
from benchmarks.step_workers import StepWorker, answer_steps, take_turns
from benchmarks.twins import place_of, write_twin
from tfasr.configs.model import ModelConfig
from tfasr.configs.presets import PRESETS
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.configs.training import OptimizerConfig, TrainConfig
from tfasr.losses.objective import model_losses
from tfasr.models.building import build_model
from tfasr.models.layout import Layout
from tfasr.training.optimizer import make_optimizer
from tfasr.training.steps import Batch, Steps

BETTER = {
    "conformer_s_float32_vs_torch": "higher",
    "conformer_s_bfloat16_vs_torch": "higher",
    "conformer_m_float32_vs_torch": "higher",
    "conformer_m_bfloat16_vs_torch": "higher",
    "conformer_l_float32_vs_torch": "higher",
    "conformer_l_bfloat16_vs_torch": "higher",
    "conformer_s_vs_tensorflowasr": "higher",
    "gemm_share_s": "higher",
    "gemm_share_m": "higher",
    "gemm_share_l": "higher",
    "memory_vs_torch": "lower",
    "memory_bfloat16_vs_torch": "lower",
    "memory_parallel_vs_torch": "lower",
    "recompute_memory_vs_torch": "lower",
    "recompute_time_ratio": "lower",
    "memory_vs_torch_m": "lower",
    "memory_bfloat16_vs_torch_m": "lower",
    "memory_parallel_vs_torch_m": "lower",
    "recompute_memory_vs_torch_m": "lower",
    "recompute_time_ratio_m": "lower",
    "memory_vs_torch_l": "lower",
    "memory_bfloat16_vs_torch_l": "lower",
    "memory_parallel_vs_torch_l": "lower",
    "recompute_memory_vs_torch_l": "lower",
    "recompute_time_ratio_l": "lower",
}

_BATCH = {"s": 8, "m": 8, "l": 6}
_PARALLEL = {"s": 4, "m": 4, "l": 3}  # Parts of a batch that are whole.
_FRAMES, _TOKENS, _RATE = 1000, 40, 16000
_SIZES = {size: f"conformer_{size}" for size in "sml"}
_PRECISIONS: dict[str, Any] = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_MODES = ("eager", "compiled")
_AGREEMENT = {"float32": 1e-4, "bfloat16": 2e-2}  # Relative, of losses.
_PASSES = 3  # A step's floating-point operations, by those of the forward pass.
_SEED = 0
_MEMORY = {
    "memory_vs_torch": "ours float32 whole",
    "memory_bfloat16_vs_torch": "ours bfloat16 whole",
    "memory_parallel_vs_torch": "ours float32",
    "recompute_memory_vs_torch": "ours float32 recomputed",
}


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line; or is a worker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="s,m,l", help="of s, m, l, by commas")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each")
    parser.add_argument(
        "--torch", default=",".join(_MODES), help="its modes, by commas; to compile takes minutes"
    )
    parser.add_argument("--peers", type=Path, default=Path("work/peers"), help="environments")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--take", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--recompute", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parallel", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.take:
        size, precision, folder = arguments.take
        config = PRESETS[_SIZES[size]]
        encoder = replace(config.encoder, recompute=arguments.recompute)
        config = replace(config, encoder=encoder)
        answer_steps(*make_steps(config, precision, Path(folder), arguments.parallel))
        return
    figures: dict[str, float | None] = {}
    for size in arguments.sizes.split(","):
        workers: dict[str, StepWorker] = {}
        gigabytes: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            operations = write_case(PRESETS[_SIZES[size]], size, Path(folder))
            # A few at a time: their memory together is more than a desktop's.
            for sitting in (*_PRECISIONS, None):
                started = (
                    _workers(size, sitting, folder, arguments) if sitting else _whole(size, folder)
                )
                take_turns(started, arguments.rounds)
                gigabytes |= {name: worker.finish() for name, worker in started.items()}
                workers |= started
        _check(workers)
        _tell(size, workers, gigabytes, operations)
        figures |= _figures(size, workers, gigabytes, operations)
    if arguments.json:
        print(json.dumps(figures))


def write_case(config: ModelConfig, size: str, folder: Path) -> float:
    """Writes what all are given; returns the floating-point operations of a forward pass."""
    batch = _BATCH[size]
    generator = counted_generator(_SEED, "benchmarks.training")
    features = generator.standard_normal([batch, _FRAMES, config.num_mels], np.float32)
    np.save(folder / "features.npy", features)
    tokens = generator.integers(0, config.vocabulary, [batch, _TOKENS], np.int32)
    np.save(folder / "tokens.npy", tokens)
    waveforms = generator.standard_normal([batch, _FRAMES * _RATE // 100], np.float32)
    np.save(folder / "waveforms.npy", 0.1 * waveforms)
    return forward_operations(write_twin(config, folder, _SEED), batch, _FRAMES)


def _workers(
    size: str, precision: str, folder: str, arguments: argparse.Namespace
) -> dict[str, StepWorker]:
    """Starts ours in one precision, and what it is measured beside."""
    peers = arguments.peers
    ours = [*_ours(size, precision, folder), f"--parallel={_PARALLEL[size]}"]
    workers = {f"ours {precision}": StepWorker(ours), f"limit {precision}": limit(precision)}
    torch = TORCH.python(peers)
    for mode in arguments.torch.split(",") if torch else ():
        command = [str(torch), "-m", "benchmarks.torch_conformer_step", folder, precision, mode]
        compiled = peers.resolve() / "torch" / "compiled" / size / precision
        workers[f"torch {precision} {mode}"] = StepWorker([*command, str(compiled)])
    if precision == "float32":
        workers["limit memory"] = limit("memory")
        other = TENSORFLOWASR.python(peers) if size == "s" else None
        if other:
            command = [other, "-m", "benchmarks.tensorflowasr_step", folder, "ctc"]
            workers["TensorFlowASR"] = StepWorker(command)
    return workers


def _whole(size: str, folder: str) -> dict[str, StepWorker]:
    """Starts ours with batches that are not parted."""
    twice = [*_ours(size, "float32", folder), "--recompute"]
    workers = {f"ours {one} whole": StepWorker(_ours(size, one, folder)) for one in _PRECISIONS}
    return {**workers, "ours float32 recomputed": StepWorker(twice)}


def _ours(size: str, precision: str, folder: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.training", "--take", size, precision, folder]


def _check(workers: dict[str, StepWorker]) -> None:
    """Refuses peers that compute something else."""
    expected = workers["ours float32"]
    for name, worker in workers.items():
        if not name.startswith(("ours", "torch")):
            continue
        apart = abs(worker.loss / expected.loss - 1)
        if worker.parameters != expected.parameters or apart > _AGREEMENT[name.split()[1]]:
            raise RuntimeError(
                f"all must have {expected.parameters} parameters and a loss of {expected.loss}; "
                f"got {worker.parameters} and {worker.loss} of {name}"
            )


def _figures(
    size: str, workers: dict[str, StepWorker], gigabytes: dict[str, float], operations: float
) -> dict[str, float | None]:
    """Ratios by their names in the results; None where a peer is not installed."""
    figures: dict[str, float | None] = {}
    for precision in _PRECISIONS:
        torch = [workers.get(f"torch {precision} {mode}") for mode in _MODES]
        found = [_ratio(peer, workers[f"ours {precision}"]) for peer in torch if peer]
        ending = "" if precision == "float32" else "_bfloat16"
        figures[f"conformer_{size}_{precision}_vs_torch"] = min(found, default=None)
        figures[f"gemm_share_{size}{ending}"] = _share(workers, precision, operations)
    figures["memory_gigabytes_a_second"] = _bandwidth(workers)
    whole, twice = workers["ours float32 whole"], workers["ours float32 recomputed"]
    figures[f"recompute_time_ratio_{size}"] = _ratio(twice, whole)
    for key, name in _MEMORY.items():
        eager = gigabytes.get(f"torch {name.split()[1]} eager")
        figures[f"{key}_{size}"] = None if eager is None else gigabytes[name] / eager
    if size == "s":
        known = [key for key in BETTER if f"{key}_s" in figures]
        figures |= {key: figures[f"{key}_s"] for key in known}
        other = workers.get("TensorFlowASR")
        ratio = None if other is None else _ratio(other, workers["ours float32"])
        figures["conformer_s_vs_tensorflowasr"] = ratio
    return figures


def _share(workers: dict[str, StepWorker], precision: str, operations: float) -> float:
    """Share of the limit's rate at which a step's products and convolutions are done."""
    rates = [OPERATIONS / seconds for seconds in workers[f"limit {precision}"].seconds]
    steps = workers[f"ours {precision}"].seconds
    pairs = zip(steps, rates, strict=True)
    return median(_PASSES * operations / seconds / rate for seconds, rate in pairs)


def _bandwidth(workers: dict[str, StepWorker]) -> float:
    """Gigabytes a second that are read and written at best."""
    return BYTES / median(workers["limit memory"].seconds) / 1e9


def _ratio(theirs: StepWorker, ours: StepWorker) -> float:
    pairs = zip(theirs.seconds, ours.seconds, strict=True)
    return median(one / other for one, other in pairs)


def _tell(
    size: str, workers: dict[str, StepWorker], gigabytes: dict[str, float], operations: float
) -> None:
    print(f"{_SIZES[size]}: {_PASSES * operations / 1e9:,.0f} GFLOP a step", flush=True)
    print(f"{'':24}s a step (least to most)   processor s   peak GB")
    for name, worker in workers.items():
        spread = f"{min(worker.seconds):.3f} to {max(worker.seconds):.3f}"
        print(
            f"{name:24}{median(worker.seconds):8.3f} ({spread:16}) "
            f"{median(worker.processor):12.2f}{gigabytes[name]:10.2f}"
        )
    for precision in _PRECISIONS:
        rate = OPERATIONS / median(workers[f"limit {precision}"].seconds) / 1e9
        print(f"limit of products in {precision}: {rate:,.0f} GFLOP/s")
    print(f"limit of memory: {_bandwidth(workers):.1f} GB/s")


def make_steps(
    config: ModelConfig, precision: str, folder: Path, parallel: int = 1
) -> tuple[int, Callable[[], float], Callable[[], float]]:
    """Makes our model.

    Returns:
        Its parameters, what takes a step, and what gives the loss of its first weights without
        dropout.
    """
    if parallel > 1:
        # As `tfasr train` does.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    model = build_model(config, precision=_PRECISIONS[precision])
    layout = Layout(model)
    weights = np.load(folder / "weights.npz")

    def assign_weights() -> None:
        for entry in layout:
            entry.variable.assign(weights[place_of(entry)])

    assign_weights()
    settings = OptimizerConfig(average=0.0, parallel=parallel)
    train = TrainConfig(data=folder, run=folder, model=config, optimizer=settings)
    optimizer = make_optimizer(settings)
    optimizer.build(model.trainable_variables)
    features = tf.constant(np.load(folder / "features.npy"))
    batch: Batch = {
        "features": features,
        "num_frames": tf.fill([features.shape[0]], _FRAMES),
        "tokens": tf.constant(np.load(folder / "tokens.npy")),
        "num_tokens": tf.fill([features.shape[0]], _TOKENS),
    }
    steps, seed = Steps(model, model, optimizer, train), counted_seed(_SEED, "benchmarks.training")

    def reference() -> float:
        assign_weights()
        return float(tf.reduce_mean(model_losses(model, batch, train.objective, None).losses))

    return layout.parameters(), lambda: steps.take([batch], [seed]).loss, reference


if __name__ == "__main__":
    main()
