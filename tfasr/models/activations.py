"""Activations that keep what they were given, and no more, for their gradients.

They compute in float32 whatever they are given.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfasr.models.dropout import draws_like, kept
from tfasr.models.fusion import Chain, Tensors


def silu(x: tf.Tensor, rate: float = 0.0, seed: tf.Tensor | None = None) -> tf.Tensor:
    """Swish, x sigmoid(x), with dropout.

    Args:
        x: Any shape, float.
        rate: Of the dropout, in [0, 1).
        seed: [2] int32; None turns dropout off.

    Returns:
        Like `x`.

    Source: Ramachandran et al. (2017), "Searching for Activation Functions", section 4.
    """
    if seed is None or rate == 0:
        return _SILU(x)
    return _SILU(x, draws_like(x, seed), rate=rate)


def _silu(x: tf.Tensor, *draws: tf.Tensor, **rate: float) -> tuple[tf.Tensor, Tensors]:
    wide = tf.cast(x, tf.float32)
    # tf.nn.silu has a gradient of its own, which is saved with every model.
    y = wide * tf.sigmoid(wide)
    return tf.cast(_dropped(y, draws, rate), x.dtype), ()


def _silu_gradient(x: tf.Tensor, *others: tf.Tensor, **rate: float) -> tuple[tf.Tensor, ...]:
    *draws, upstream = others
    wide = tf.cast(x, tf.float32)
    share = tf.sigmoid(wide)
    slope = share * (1 + wide * (1 - share))
    of_x = _dropped(tf.cast(upstream, tf.float32), draws, rate) * slope
    return tf.cast(of_x, x.dtype), *(None for _ in draws)


def _dropped(x: tf.Tensor, draws: Sequence[tf.Tensor], rate: dict[str, float]) -> tf.Tensor:
    return kept(x, *draws, **rate) if draws else x


_SILU = Chain(_silu, _silu_gradient)


def gated(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Gated linear unit, zero on padded frames.

    Args:
        x: [B, T, 2 C] float, values before gates.
        mask: [B, T] bool, True on real frames.

    Returns:
        [B, T, C].

    Source: Dauphin et al. (2017), "Language Modeling with Gated Convolutional Networks", eq. 1.
    """
    return _GATED(x, mask)


def _gated(x: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, Tensors]:
    value, gate = tf.split(tf.cast(x, tf.float32), 2, -1)
    y = tf.where(mask[:, :, None], value * tf.sigmoid(gate), 0.0)
    return tf.cast(y, x.dtype), ()


def _gated_gradient(
    x: tf.Tensor, mask: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor | None, ...]:
    # Joined by a broadcast: XLA takes three times as long to concatenate what it computes.
    batch, frames = tf.unstack(tf.shape(x)[:2])
    halves = tf.reshape(tf.cast(x, tf.float32), [batch, frames, 2, upstream.shape[-1]])
    value, gate = halves[:, :, :1], halves[:, :, 1:]  # [B, T, 1, C]
    upstream = tf.where(mask[:, :, None], tf.cast(upstream, tf.float32), 0.0)[:, :, None]
    is_value = tf.constant([True, False])[:, None]
    of_both = tf.where(is_value, 1.0, value * (1 - tf.sigmoid(gate)))  # [B, T, 2, C]
    of_both = of_both * tf.sigmoid(gate) * upstream
    return tf.cast(tf.reshape(of_both, tf.shape(x)), x.dtype), None


_GATED = Chain(_gated, _gated_gradient)
