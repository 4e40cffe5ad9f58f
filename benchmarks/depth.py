"""Do 100 blocks train under DeepNorm, and do they without it?

Trains narrow Conformers of several depths by CTC on the same batches of recorded digits (where
there are no recordings, of tones), a token each, from the same seed; one model a core, side by
side. A model that hears nothing gives every recording the same logits: how low its loss gets is
printed as well. One that hears when a digit is said, and not which, gets down to ln 10. What is
finished is kept in `--out`, and a second run goes on from there.
`python -m benchmarks.depth [--blocks 12,50,100] [--steps N] [--json]`
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tfasr.artifacts.files import append_json_line, atomic_path, read_json_lines
from tfasr.audio.decoding import write_wav
from tfasr.configs.corpora import FsddConfig, TokenizerConfig
from tfasr.configs.features import FbankConfig
from tfasr.configs.loading import to_mapping
from tfasr.configs.model import EncoderConfig, ModelConfig, Residual
from tfasr.configs.prepare import PrepareConfig
from tfasr.configs.seeds import counted_generator, counted_seed
from tfasr.configs.training import OptimizerConfig
from tfasr.data.batches import MODEL_INPUTS, shuffle_examples
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.features.extractor import FeatureExtractor
from tfasr.losses.ctc import ctc_loss
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.models.subsampling import subsampled
from tfasr.preparation.preparation import Preparation
from tfasr.text.tokenizer import Tokenizer
from tfasr.training.optimizer import make_optimizer

_KINDS: tuple[Residual, ...] = ("deep_norm", "deep_norm_release", "post_norm", "pre_norm")
_ENCODER = EncoderConfig(dim=32, num_heads=4, conv_kernel=5, norm_groups=8, dropout=0.0)
_OPTIMIZER = OptimizerConfig(peak=1.5e-3, warmup=100)
_SEED = 0
_RATE = 8000
_STRINGS = 960
_BATCH = 24
# Loss of a model that knows when one of ten digits is said, and not which.
_UNTOLD = math.log(10)
# Share of the loss of a model that hears less, under which one is said to hear more.
_LEARNT = 0.9
_SMOOTHED = 16  # Steps that a point of the figure stands for.
# Of the search for the best logits that are the same for every recording.
_DEAF_RATE = 0.1
_DEAF_STEPS = 200

Batch = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model of the comparison, and how it is trained."""

    model: ModelConfig
    corpus: str
    steps: int
    strings: int = _STRINGS
    batch: int = _BATCH
    optimizer: OptimizerConfig = _OPTIMIZER
    seed: int = _SEED

    @property
    def name(self) -> str:
        encoder = self.model.encoder
        return f"{encoder.residual}_{encoder.num_blocks}"


@dataclass(frozen=True)
class Curve:
    """What became of a model.

    Args:
        losses: By step, up to the first that is no number.
        steps: That there should be.
        seconds: Of a step, median.
    """

    losses: list[float]
    steps: int
    seconds: float

    @property
    def final(self) -> float:
        """Mean of the last tenth of the steps; no number where they were not reached."""
        return self._means()[-1] if len(self.losses) == self.steps else math.nan

    @property
    def lowest(self) -> float:
        """Lowest mean of a tenth of the steps."""
        return min(self._means(), default=math.nan)

    @property
    def diverged(self) -> bool:
        """Whether the loss became no number, or ended no lower than it began."""
        return not (self.losses and self.final < self.losses[0])

    def _means(self) -> list[float]:
        width = max(1, self.steps // 10)
        return [
            float(np.mean(self.losses[end - width : end]))
            for end in range(width, len(self.losses) + 1)
        ]


class SharedGraphSteps:
    """Takes optimizer steps of a model all of whose blocks run in one graph.

    The graph of a hundred blocks takes longer to trace than the training here. So the blocks'
    weights are the rows of a matrix, and the graph of the first block is called with each row
    in turn, and once more for its gradient. Without dropout.

    Args:
        model: What is trained; the variables of its blocks are left behind.
        config: Its optimizer.
    """

    def __init__(self, model: AcousticModel, config: OptimizerConfig) -> None:
        self.model = model
        self.block = model.blocks[0]
        self.rows = tf.Variable([_joined(block.trainable_variables) for block in model.blocks])
        self.first = model.subsampling.trainable_variables
        self.last = model.head.trainable_variables
        self.optimizer = make_optimizer(config)
        self.optimizer.build([*self.first, self.rows, *self.last])
        frames = tf.TensorSpec([None, None, model.subsampling.dim])
        given = [frames, tf.TensorSpec([None, None], tf.bool), tf.TensorSpec(self.rows.shape[1:])]
        self._forward = tf.function(self._block_output, given, autograph=False)
        self._backward = tf.function(self._block_gradients, [*given, frames], autograph=False)
        self._update = tf.function(self._apply, autograph=False)

    def take(self, batch: Batch) -> float:
        """Takes one step on what `MODEL_INPUTS` names; gives the loss before it."""
        with tf.GradientTape() as front:
            x, mask = self.model.subsample(batch["features"], batch["num_frames"])
        inputs, rows = [x], tf.unstack(self.rows)
        for row in rows:
            inputs.append(self._forward(inputs[-1], mask, row))
        encoded = inputs.pop()
        with tf.GradientTape() as head:
            head.watch(encoded)
            frames = self.model.encoded_frames(batch["num_frames"])
            logits = self.model.head(encoded)
            loss = tf.reduce_mean(ctc_loss(logits, frames, batch["tokens"], batch["num_tokens"]))
        upstream, *of_last = head.gradient(loss, [encoded, *self.last])
        of_rows = []
        for block_input, row in zip(reversed(inputs), reversed(rows), strict=True):
            upstream, of_row = self._backward(block_input, mask, row, upstream)
            of_rows.append(of_row)
        of_first = front.gradient(x, self.first, upstream)
        self._update([*of_first, tf.stack(of_rows[::-1]), *of_last])
        return float(loss)

    def _block_output(self, x: tf.Tensor, mask: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        self._put(row)
        return self.block(x, mask=mask)

    def _block_gradients(
        self, x: tf.Tensor, mask: tf.Tensor, row: tf.Tensor, upstream: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self._put(row)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = self.block(x, mask=mask)
        of_x, *of_weights = tape.gradient(y, [x, *self.block.trainable_variables], upstream)
        return of_x, _joined(of_weights)

    def _put(self, row: tf.Tensor) -> None:
        weights = self.block.trainable_variables
        parts = tf.split(row, [math.prod(weight.shape) for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.assign(tf.reshape(part, weight.shape))

    def _apply(self, gradients: Sequence[tf.Tensor]) -> None:
        variables = [*self.first, self.rows, *self.last]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))


def main() -> None:
    """Trains what is not yet trained, prints the table, draws the figure and, if asked, JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=_numbers, default=(12, 50, 100), help="depths, by commas")
    parser.add_argument("--residuals", nargs="+", choices=_KINDS, default=_KINDS)
    parser.add_argument("--steps", type=int, default=600, help="optimizer steps of each model")
    parser.add_argument("--source", type=Path, default=Path("../shared/data/fsdd"))
    parser.add_argument("--out", type=Path, default=Path("work/depth"), help="what is finished")
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/figures/depth.png"))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    corpus = "digits" if arguments.source.is_dir() else "tones"
    data = _prepared(arguments.source, arguments.out, corpus)
    batches = _batches(data, _BATCH)
    cells = [
        Cell(model=_model(data, blocks, residual), corpus=corpus, steps=arguments.steps)
        for blocks, residual in product(arguments.blocks, arguments.residuals)
    ]
    curves = _trained(cells, batches, arguments.out / "curves.jsonl")
    [everything] = _batches(data, _STRINGS)
    deaf = _deaf_loss(everything, cells[0].model.vocabulary)
    _tell(curves, deaf, corpus)
    _draw(curves, deaf, arguments.figure)
    if arguments.json:
        print(json.dumps({"deaf_loss": deaf, **_figures(curves)}))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _prepared(source: Path, out: Path, corpus: str) -> PreparedData:
    config = PrepareConfig(
        corpus="fsdd",
        source=source if corpus == "digits" else _made_up(out / "recordings"),
        out=out / corpus,
        fsdd=FsddConfig(
            train_strings=_STRINGS, valid_strings=0, test_strings=0, min_digits=1, max_digits=1
        ),
        fbank=FbankConfig(sample_rate=_RATE, num_mels=40),
        # Enough pieces for each digit to be one.
        tokenizer=TokenizerConfig(kind="bpe", vocabulary=52),
    )
    preparation = Preparation(config)
    if not preparation.is_done:
        preparation.run(lambda done, total: None)
    return PreparedData(config.out)


def _made_up(folder: Path) -> Path:
    """A tone a digit, in noise."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = np.arange(_RATE // 2) / _RATE
    for digit, take in product(range(10), range(10, 14)):
        noise = counted_generator(_SEED, "noise", digit, take).normal(0, 300, len(seconds))
        tone = 6000 * np.sin(2 * np.pi * (400 + 300 * digit) * seconds)
        write_wav(folder / f"{digit}_tone_{take}.wav", (tone + noise).astype(np.int16), _RATE)
    return folder


def _batches(data: PreparedData, size: int) -> list[Batch]:
    """Batches of one epoch, in any order and all of one size."""
    extractor = FeatureExtractor(data.fbank, data.statistics)
    by_length = evaluation_batches(
        data.source("train"), data.durations("train"), extractor=extractor
    )
    examples = by_length.map(lambda batch: {name: batch[name] for name in MODEL_INPUTS}).unbatch()
    seed = counted_seed(_SEED, "benchmarks.depth", "batches")
    examples = shuffle_examples(examples, buffer=_STRINGS, seed=seed)
    return list(examples.padded_batch(size, drop_remainder=True).as_numpy_iterator())


def _model(data: PreparedData, blocks: int, residual: Residual) -> ModelConfig:
    return ModelConfig(
        encoder=replace(_ENCODER, num_blocks=blocks, residual=residual),
        num_mels=data.fbank.num_mels,
        vocabulary=Tokenizer(data.tokenizer).vocabulary,
    )


def _trained(cells: Sequence[Cell], batches: list[Batch], log: Path) -> dict[Cell, Curve]:
    rows = read_json_lines(log) if log.is_file() else []
    curves = {}
    for cell, row in product(cells, rows):
        if row["cell"] == to_mapping(cell):
            curves[cell] = Curve(row["losses"], cell.steps, row["seconds"])
    # The deepest first: what is begun last should not be what takes longest.
    missing = sorted(set(cells) - curves.keys(), key=lambda cell: -cell.model.num_blocks)
    spawn = get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=spawn, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(_train, cell, batches): cell for cell in missing}
        for future in as_completed(waiting):
            cell, curve = waiting[future], future.result()
            row = {"cell": to_mapping(cell), "losses": curve.losses, "seconds": curve.seconds}
            append_json_line(log, row)
            curves[cell] = curve
            print(f"{cell.name}: done, {len(curves)} of {len(cells)}", flush=True)
    return {cell: curves[cell] for cell in cells}


def _train(cell: Cell, batches: list[Batch]) -> Curve:
    # Operations are too small to be worth dividing, and every other core has a model of its own.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = build_model(cell.model)
    initialize(Layout(model), cell.seed)
    steps = SharedGraphSteps(model, cell.optimizer)
    losses: list[float] = []
    seconds = []
    for step in range(cell.steps):
        epoch, place = divmod(step, len(batches))
        order = counted_generator(cell.seed, "benchmarks.depth", epoch).permutation(len(batches))
        started = time.perf_counter()
        loss = steps.take(batches[order[place]])
        seconds.append(time.perf_counter() - started)
        if not math.isfinite(loss):
            break
        losses.append(loss)
    return Curve(losses, cell.steps, median(seconds))


def _deaf_loss(batch: Batch, vocabulary: int) -> float:
    """Mean loss of the best logits [T', V + 1] that are the same for every recording."""
    frames = subsampled(tf.constant(batch["num_frames"]))
    logits = tf.Variable(tf.zeros([int(tf.reduce_max(frames)), vocabulary + 1]))
    optimizer = keras.optimizers.Adam(_DEAF_RATE, jit_compile=False)

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            always = tf.broadcast_to(logits, [len(batch["num_frames"]), *logits.shape])
            losses = ctc_loss(always, frames, batch["tokens"], batch["num_tokens"])
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients([(tape.gradient(loss, logits), logits)])
        return loss

    graph = tf.function(step, autograph=False)
    return min(float(graph()) for _ in range(_DEAF_STEPS))


def _tell(curves: dict[Cell, Curve], deaf: float, corpus: str) -> None:
    print(f"CTC on {corpus}; a model that hears nothing comes to {deaf:.2f}")
    print("blocks   residual             final    lowest   s a step   outcome")
    for cell, curve in curves.items():
        encoder = cell.model.encoder
        outcome = "hears nothing" if curve.final >= _LEARNT * deaf else "hears when"
        outcome = "tells digits apart" if curve.final < _LEARNT * _UNTOLD else outcome
        print(
            f"{encoder.num_blocks:6d}   {encoder.residual:17s} {curve.final:8.2f} "
            f"{curve.lowest:9.2f} {curve.seconds:10.2f}   "
            f"{'diverges' if curve.diverged else outcome}"
        )


def _figures(curves: dict[Cell, Curve]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for cell, curve in curves.items():
        # JSON has no word for what is no number.
        for key, loss in (("loss", curve.final), ("lowest", curve.lowest)):
            figures[f"{cell.name}_{key}"] = loss if math.isfinite(loss) else None
        figures[f"{cell.name}_diverged"] = int(curve.diverged)
        figures[f"{cell.name}_seconds_per_step"] = curve.seconds
    return figures


def _draw(curves: dict[Cell, Curve], deaf: float, path: Path) -> None:
    depths = list(dict.fromkeys(cell.model.num_blocks for cell in curves))
    figure = Figure(figsize=(1 + 3.2 * len(depths), 3.8), layout="constrained")
    panels = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for panel, depth in zip(panels, depths, strict=True):
        lines = []
        for cell, curve in curves.items():
            if cell.model.num_blocks == depth:
                label = cell.model.encoder.residual
                steps = range(1, len(curve.losses) + 1)
                lines += panel.plot(steps, _smooth(curve.losses), linewidth=1.3, label=label)
        lines.append(panel.axhline(deaf, color="grey", linestyle=":", label="hears nothing"))
        lines.append(panel.axhline(_UNTOLD, color="grey", linestyle="--", label="hears when"))
        panel.set_title(f"{depth} blocks", fontsize=10)
        panel.set_xlabel("step")
        panel.set_yscale("log")
        panel.grid(which="both", alpha=0.25)
    panels[0].set_ylabel(f"CTC loss, geometric mean of {_SMOOTHED} steps")
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), fontsize=8)
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=150, format="png")


def _smooth(losses: list[float]) -> list[float]:
    logarithms = np.log(losses)
    ends = range(1, len(losses) + 1)
    return [float(np.exp(logarithms[max(0, end - _SMOOTHED) : end].mean())) for end in ends]


def _joined(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


if __name__ == "__main__":
    main()
