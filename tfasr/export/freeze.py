"""Blocks whose weights are constants, come from a seed, are of 8 bits, or are left out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.export import Form
from tfasr.export.rebuilt import DrawnWeight, RebuiltWeight
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.initialization import initial_value, initialize
from tfasr.models.layout import Entry, Layout
from tfasr.study.batch_statistics import is_statistic

_LARGEST = 127


@dataclass(frozen=True, kw_only=True)
class Freezing:
    """What becomes of some blocks of a model.

    Args:
        blocks: Their indices.
        form: See `FreezeConfig`.
        run_seed: Of the run, for "seed".
        draw: Which fresh weights, for "seed"; 0 for those of step 0.
    """

    blocks: tuple[int, ...] = ()
    form: Form = "constant"
    run_seed: int = 0
    draw: int = 1

    def settle(self, model: AcousticModel) -> None:
        """Gives a model the values, and the blocks, that its export will have.

        The model is a whole one still: it can be trained, evaluated, exported.

        Raises:
            ValueError: A block can't be left out.
        """
        if self.form == "pruned":
            _leave_out(model, self.blocks)
        entries = [entry for entry in Layout(model) if entry.block in self.blocks]
        if self.form == "seed":
            # The study's resets kept the moving averages of batch normalisation too.
            own = [entry for entry in entries if not is_statistic(entry)]
            initialize(own, self.run_seed, self.draw)
        if self.form == "int8":
            for entry in filter(_is_kernel, entries):
                entry.variable.assign(dequantized(*quantized(entry.variable.numpy())))

    def fix(self, model: AcousticModel) -> list[RebuiltWeight]:
        """Puts what is exported in the place of the blocks' variables.

        Whatever is traced afterwards captures no variable of theirs. They can't be trained any
        more.

        Args:
            model: A settled one.

        Returns:
            What a SavedModel must track besides variables.
        """
        resources: list[RebuiltWeight] = []
        if self.form == "pruned":
            return resources
        places = {id(entry.variable): entry for entry in Layout(model)}
        for block in self.blocks:
            for module in (model.blocks[block], *model.blocks[block].submodules):
                variables = {k: v for k, v in vars(module).items() if isinstance(v, tf.Variable)}
                fixed = {k: self._fixed(places[id(v)]) for k, v in variables.items()}
                # Past Keras, which would have a variable stay one.
                vars(module).update(fixed)
                resources += [v for v in fixed.values() if isinstance(v, RebuiltWeight)]
        return resources

    def _fixed(self, entry: Entry) -> tf.Tensor | RebuiltWeight | DrawnWeight:
        if self.form == "seed" and not is_statistic(entry):
            make = partial(initial_value, entry, self.run_seed, self.draw)
            if not _is_kernel(entry):
                return DrawnWeight(entry.shape, make)
            drawn = f"{entry.name}/{entry.shape}/{entry.gain!r}/{self.run_seed}/{self.draw}"
            return _rebuilt(entry, make, drawn.encode())
        if self.form == "int8" and _is_kernel(entry):
            values, scales = quantized(entry.variable.numpy())
            make = partial(dequantized, values, scales)
            return _rebuilt(entry, make, values.tobytes() + scales.tobytes())
        return tf.constant(entry.variable.numpy())


def _rebuilt(entry: Entry, make: Callable[[], tf.Tensor], content: bytes) -> RebuiltWeight:
    digest = hashlib.sha256(content).hexdigest()
    return RebuiltWeight(f"tfasr/{entry.name}/{digest}", entry.shape, make)


def _is_kernel(entry: Entry) -> bool:
    return entry.role.rsplit("/", 1)[-1] == "kernel"


def quantized(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds a kernel to 8 bits, symmetrically, with a scale for each output channel.

    Args:
        weights: [..., C] float32.

    Returns:
        [..., C] int8 from -127 to 127, and the scales [C] float32: a channel's largest weight is
        127 of its scale.

    Source: Wu et al. (2020), "Integer Quantization for Deep Learning Inference", section 3.1.2
        and 3.2.
    """
    largest = np.abs(weights).reshape(-1, weights.shape[-1]).max(0)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def dequantized(values: NDArray[np.int8], scales: NDArray[np.float32]) -> tf.Tensor:
    """Turns what `quantized` gave into floats again, in the graph: [..., C] float32."""
    return tf.cast(tf.constant(values), tf.float32) * tf.constant(scales)


def _leave_out(model: AcousticModel, blocks: Sequence[int]) -> None:
    for index in blocks:
        if model.blocks[index].stride > 1:
            raise ValueError(
                f"block {index} joins {model.blocks[index].stride} frames to one, which the blocks "
                "after it count on, so it can't be pruned; freeze it as constant, seed or int8, "
                "or fewer blocks"
            )
    model.blocks = [
        block.residual_path() if index in blocks else block
        for index, block in enumerate(model.blocks)
    ]
