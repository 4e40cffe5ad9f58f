"""First weights, and fresh draws from the distribution that they came from."""

import math
from collections.abc import Iterable

import tensorflow as tf

from tfasr.configs.seeds import counted_seed
from tfasr.models.layout import Entry


def initial_value(entry: Entry, run_seed: int, draw: int = 0) -> tf.Tensor:
    """Draws a variable's first value.

    Kernels are Glorot-uniform with the entry's gain (the depthwise one by its own fan-in),
    gains of norms one, biases zero. Embeddings are normal with variance 1 / D, as the decoder
    scales them by sqrt(D).

    Args:
        entry: The variable and its place.
        run_seed: The run's seed.
        draw: 0 for the weights of step 0; any other number for an independent draw from the
            same distribution.

    Returns:
        The value, in the variable's shape, float32.
    """
    return drawn_value(entry, counted_seed(run_seed, "weights", entry.name, draw))


def drawn_value(entry: Entry, seed: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Draws a value from the distribution of a variable's first one.

    Args:
        entry: The variable and its place.
        seed: [2] int32.

    Returns:
        As `initial_value`.
    """
    last = entry.role.rsplit("/", 1)[-1]
    if last in ("gamma", "moving_variance"):
        return tf.ones(entry.shape)
    if last == "embeddings":
        deviation = entry.shape[-1] ** -0.5
        return tf.random.stateless_normal(entry.shape, seed, 0.0, deviation, alg="philox")
    if last != "kernel":
        return tf.zeros(entry.shape)
    limit = math.sqrt(_limit_squared(entry))
    return tf.random.stateless_uniform(entry.shape, seed, -limit, limit, alg="philox")


def _limit_squared(entry: Entry) -> float:
    if entry.role.endswith("depthwise/kernel"):
        return 3 / entry.shape[0]
    *receptive_field, fan_in, fan_out = entry.shape
    return entry.gain**2 * 6 / (math.prod(receptive_field) * (fan_in + fan_out))


def initialize(entries: Iterable[Entry], run_seed: int, draw: int = 0) -> None:
    """Assigns `initial_value` to each variable."""
    for entry in entries:
        entry.variable.assign(initial_value(entry, run_seed, draw))
