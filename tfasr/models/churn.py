"""Churn: how far training has moved the kernels of each module in each block."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.models.initialization import initial_value
from tfasr.models.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Churn:
    """How far the kernels of M modules in L blocks are from their first values.

    Where a block has no such module, both norms are 0.

    Args:
        step: Of the checkpoint that was measured.
        modules: Names of the modules that have kernels.
        moved: [M, L] float64, |W(t) - W(0)|_F over all kernels of the module.
        first: [M, L] float64, |W(0)|_F of the same.

    Source: "Ambient layers", section 2.4.
    """

    step: int
    modules: tuple[str, ...]
    moved: NDArray[np.float64]
    first: NDArray[np.float64]

    @property
    def normalised(self) -> NDArray[np.float64]:
        """The churn metric, [M, L] in [0, 1]; all 0 for a module that has not moved.

        |W_m,l(t) - W_m,l(0)|_F / max over l' of |W_m,l'(t) - W_m,l'(0)|_F.
        """
        return _ratio(self.moved, self.moved.max(axis=1, keepdims=True))

    @property
    def relative(self) -> NDArray[np.float64]:
        """|W(t) - W(0)|_F / |W(0)|_F, [M, L]."""
        return _ratio(self.moved, self.first)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


def measure_churn(layout: Layout, run_seed: int, step: int) -> Churn:
    """Measures how far the blocks' kernels are from their first values.

    Norms, gains and biases are left out. First values are rebuilt from the seed, one kernel at
    a time, so that no second model is held.

    Args:
        layout: Of the model.
        run_seed: The seed that its first weights came from.
        step: That the model is of; goes into the outcome.

    Source: "Ambient layers", section 2.4.
    """
    kernels = [e for e in layout if e.block is not None and e.role.endswith("kernel")]
    modules = tuple(dict.fromkeys(entry.module for entry in kernels))
    squares = np.zeros([2, len(modules), layout.num_blocks])
    for entry in kernels:
        first = initial_value(entry, run_seed)
        norms = tf.nn.l2_loss(entry.variable - first), tf.nn.l2_loss(first)
        # TensorFlow's is half of the sum of squares.
        squares[:, modules.index(entry.module), entry.block] += 2 * np.array(norms, np.float64)
    moved, begun = np.sqrt(squares)
    return Churn(step=step, modules=modules, moved=moved, first=begun)
