"""A long short-term memory that is read at once or in steps."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfasr.models.dense import Dense
from tfasr.models.scopes import build_in_scope


class LstmState(NamedTuple):
    """What an LSTM remembers between steps.

    Args:
        output: [B, P] float, of the last step.
        cell: [B, P] float.
    """

    output: tf.Tensor
    cell: tf.Tensor


@keras.saving.register_keras_serializable(package="tfasr")
class Lstm(keras.layers.Layer):
    """Long short-term memory with one bias.

    What it is given is multiplied with its weights for all steps at once, and only what it
    remembers step by step: Keras's layer on a CPU does both in each step.

    Args:
        units: P.

    Call:
        x: [B, U, D] float.
        state: Before the first step; None for zeros.
        returns: [B, U, P], and the state after the last step.

    Source: Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000).
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.gates = Dense(4 * units, name="gates")
        self.recurrent = Dense(4 * units, use_bias=False, name="recurrent")

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_scope(self.gates, input_shape)
        build_in_scope(self.recurrent, (None, self.units))
        super().build(input_shape)

    def start(self, batch: tf.Tensor) -> LstmState:
        """Returns the state before the first step, for `batch` (scalar int32) rows."""
        nothing = tf.zeros([batch, self.units], self.compute_dtype)
        return LstmState(nothing, nothing)

    def call(self, x: tf.Tensor, state: LstmState | None = None) -> tuple[tf.Tensor, LstmState]:
        state = self.start(tf.shape(x)[0]) if state is None else state
        by_step = tf.transpose(self.gates(x), [1, 0, 2])  # [U, B, 4 P]
        outputs, cells = tf.scan(self._step, by_step, state)
        return tf.transpose(outputs, [1, 0, 2]), LstmState(outputs[-1], cells[-1])

    def step(self, x: tf.Tensor, state: LstmState) -> tuple[tf.Tensor, LstmState]:
        """Takes one step x [B, D]: what it gives, [B, P], and the state after it."""
        after = self._step(state, self.gates(x))
        return after.output, after

    def _step(self, state: LstmState, gates: tf.Tensor) -> LstmState:
        keep, write, show, new = tf.split(gates + self.recurrent(state.output), 4, -1)
        cell = tf.sigmoid(keep) * state.cell + tf.sigmoid(write) * tf.tanh(new)
        return LstmState(tf.sigmoid(show) * tf.tanh(cell), cell)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
