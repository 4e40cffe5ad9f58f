"""How fast a SavedModel, ONNX Runtime and TorchScript hear with the same weights.

A part of `benchmarks.serving`. Each has a process of its own for each number of threads, and all
take their steps in turn: `conformer_s` with random weights, features of 10 s to logits, one
utterance. Where PyTorch or ONNX Runtime (`tfasr[onnx]`) can't be had, their figures are null.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers import TORCH
from benchmarks.step_workers import StepWorker, answer_steps
from benchmarks.training import write_case
from benchmarks.twins import place_of
from tfasr.configs.presets import CONFORMER_S
from tfasr.configs.seeds import counted_generator
from tfasr.models.building import build_model
from tfasr.models.layout import Layout

_SECONDS = 10
_THREADS = (1, 4)
_AGREEMENT = 1e-3  # Relative, of the sums of all logits' magnitudes.
_OPSET = 17
_OURS, _ONNX, _TORCH = "SavedModel", "ONNX Runtime", "TorchScript"


def measure_speed(rounds: int, peers: Path) -> dict[str, float | None]:
    """Measures, prints the table, and gives the figures.

    Args:
        rounds: Steps of each.
        peers: Folder of the environments of others.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_case(CONFORMER_S, Path(folder))
        _add_biases(Path(folder))
        _export(Path(folder))
        workers = _workers(folder, peers)
        for worker in workers.values():
            worker.start()
        for _ in range(rounds):
            for worker in workers.values():
                worker.take()
        for worker in workers.values():
            worker.finish()
    _check(workers)
    print(f"{'':32}real-time factor (least to most)")
    for (name, threads), worker in workers.items():
        factors = [seconds / _SECONDS for seconds in worker.seconds]
        spread = f"{min(factors):.4f} to {max(factors):.4f}"
        print(f"{f'{name}, {threads} threads':32}{median(factors):8.4f} ({spread})")
    return {
        "realtime_vs_onnxruntime": _ratio(workers, _ONNX),
        "realtime_vs_torchscript": _ratio(workers, _TORCH),
    }


def _add_biases(folder: Path) -> None:
    """Gives biases of zero some other value, as training does.

    Where one is zero, tf2onnx drops its addition, and then joins two reshapes wrongly.
    """
    weights = dict(np.load(folder / "weights.npz"))
    for number, (name, value) in enumerate(weights.items()):
        if not value.any():
            noise = counted_generator(0, "benchmarks.serving_speed", number)
            weights[name] = 0.01 * noise.standard_normal(value.shape, np.float32)
    np.savez(folder / "weights.npz", **weights)


def _export(folder: Path) -> None:
    """Writes the SavedModel, and where there is a converter, the same function for ONNX."""
    model = build_model(CONFORMER_S)
    weights = np.load(folder / "weights.npz")
    for entry in Layout(model):
        entry.variable.assign(weights[place_of(entry)])
    spec = tf.TensorSpec([None, None, CONFORMER_S.num_mels], name="features")

    @tf.function(input_signature=[spec], autograph=False)
    def hear(features: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = tf.shape(features)
        return {"logits": model(features, tf.fill([shape[0]], shape[1]))}

    holder = tf.Module()
    holder.weights = model.weights
    signature = hear.get_concrete_function()
    tf.saved_model.save(holder, str(folder / "saved"), signatures={"hear": signature})
    if _has_onnx():
        import tf2onnx

        output = str(folder / "model.onnx")
        tf2onnx.convert.from_function(hear, [spec], opset=_OPSET, output_path=output)


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnxruntime"))


def _workers(folder: str, peers: Path) -> dict[tuple[str, int], StepWorker]:
    torch = TORCH.python(peers)
    commands = {_OURS: [sys.executable, "-m", "benchmarks.serving_speed", "saved"]}
    if _has_onnx():
        commands[_ONNX] = [sys.executable, "-m", "benchmarks.serving_speed", "onnx"]
    if torch:
        commands[_TORCH] = [torch, "-m", "benchmarks.torch_conformer_script"]
    return {
        (name, threads): StepWorker([*command, folder, str(threads)])
        for threads in _THREADS
        for name, command in commands.items()
    }


def _check(workers: dict[tuple[str, int], StepWorker]) -> None:
    """Refuses peers that compute something else."""
    expected = workers[_OURS, _THREADS[0]].loss
    for (name, _), worker in workers.items():
        if abs(worker.loss / expected - 1) > _AGREEMENT:
            raise RuntimeError(f"logits must come to {expected}; got {worker.loss} of {name}")


def _ratio(workers: dict[tuple[str, int], StepWorker], peer: str) -> float | None:
    if (peer, _THREADS[0]) not in workers:
        return None
    return min(
        median(
            theirs / ours
            for theirs, ours in zip(
                workers[peer, threads].seconds, workers[_OURS, threads].seconds, strict=True
            )
        )
        for threads in _THREADS
    )


def main() -> None:
    """Answers with the steps of one: saved|onnx FOLDER THREADS."""
    kind, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    features = np.load(folder / "features.npy")[:1]
    step = {"saved": _saved_step, "onnx": _onnx_step}[kind](folder, features, threads)
    answer_steps(0, step)


def _saved_step(folder: Path, features: Any, threads: int) -> Any:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(str(folder / "saved"))
    batch = tf.constant(features)

    def step() -> float:
        # `loaded` keeps the weights.
        return float(np.abs(loaded.signatures["hear"](features=batch)["logits"].numpy()).sum())

    return step


def _onnx_step(folder: Path, features: Any, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def step() -> float:
        return float(np.abs(session.run(["logits"], {"features": features})[0]).sum())

    return step


if __name__ == "__main__":
    main()
