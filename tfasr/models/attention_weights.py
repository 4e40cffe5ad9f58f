"""From scores by content and by distance to the weights of relative attention."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfasr.models.dropout import draws_like, kept
from tfasr.models.fusion import fused, is_inferring

_HIDDEN = -1e30


def relative_weights(
    by_content: tf.Tensor,
    by_distance: tf.Tensor,
    visible: tf.Tensor | None,
    rate: float = 0.0,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Weighs keys by the softmax of their scores, with dropout.

    Args:
        by_content: [B, H, T, K] float, scores of keys for queries.
        by_distance: [B, H, T, K + T], as `relative_shift` takes them.
        visible: Bool that broadcasts to [B, H, T, K], True where a query sees a key; None for
            inference with scores that say it themselves, as `with_visibility` makes them.
        rate: Of the dropout, in [0, 1).
        seed: [2] int32; None turns dropout off.

    Returns:
        [B, H, T, K]; alike for all keys where a query sees none.

    Source: Dai et al. (2019), "Transformer-XL", section 3.3.
    """
    if visible is None:
        return tf.nn.softmax(by_content + relative_shift(by_distance))
    if is_inferring():
        return tf.nn.softmax(_scores(by_content, by_distance, visible))
    settings = {} if seed is None or rate == 0 else {"rate": rate}

    @tf.custom_gradient
    def weigh(
        by_content: tf.Tensor, by_distance: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradient(upstream: tf.Tensor) -> Any:
            of_scores = _softmax_gradient(weights, upstream, visible, *draws, **settings)
            return of_scores, relative_unshift(of_scores)

        # TensorFlow's own softmax takes a fifth of the time that XLA's does.
        weights = tf.nn.softmax(_scores(by_content, by_distance, visible))
        draws = [draws_like(weights, seed)] if settings else []
        return kept(weights, *draws, **settings) if draws else weights, gradient

    return weigh(by_content, by_distance)


def with_visibility(
    query: tf.Tensor, key: tf.Tensor, visible: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Has the product of queries and keys say which keys are seen, by one number more.

    Args:
        query: [B, H, T, D] float.
        key: [B, H, K, D].
        visible: [B, 1, 1, K] bool, True on keys that all queries see.

    Returns:
        [B, H, T, D + 1] and [B, H, K, D + 1], whose products are those of before, and -1e30 for
        keys that are not seen.
    """
    hidden = tf.where(visible, tf.zeros([], key.dtype), tf.constant(_HIDDEN, key.dtype))
    hidden = tf.transpose(hidden, [0, 1, 3, 2])  # [B, 1, K, 1]
    hidden = tf.broadcast_to(hidden, [*tf.unstack(tf.shape(key)[:3]), 1])
    ones = tf.ones([*tf.unstack(tf.shape(query)[:3]), 1], query.dtype)
    return tf.concat([query, ones], -1), tf.concat([key, hidden], -1)


@fused
def _scores(by_content: tf.Tensor, by_distance: tf.Tensor, visible: tf.Tensor) -> tf.Tensor:
    scores = by_content + relative_shift(by_distance)
    return tf.where(visible, scores, scores.dtype.min)


@fused
def _softmax_gradient(
    weights: tf.Tensor,
    upstream: tf.Tensor,
    visible: tf.Tensor,
    *draws: tf.Tensor,
    **rate: float,
) -> tf.Tensor:
    upstream = kept(upstream, *draws, **rate) if draws else upstream
    shares = tf.cast(weights, tf.float32)
    of_shares = tf.cast(upstream, tf.float32) * shares
    of_scores = of_shares - shares * tf.reduce_sum(of_shares, -1, keepdims=True)
    return tf.cast(tf.where(visible, of_scores, 0.0), weights.dtype)


def relative_shift(scores: tf.Tensor) -> tf.Tensor:
    """Turns scores by distance into scores by key: out[..., i, j] = in[..., i, T - 1 - i + j].

    Rows of width K + T, read from place T - 1 on as rows of width K + T - 1, start one place
    earlier each.

    Args:
        scores: [B, H, T, K + T] of T queries, column c for distance K - 1 - c; the queries are
            the last of the K frames that are attended to. The last column is not used.

    Returns:
        [B, H, T, K].

    Source: Dai et al. (2019), "Transformer-XL", appendix B.
    """
    batch, heads, frames, width = tf.unstack(tf.shape(scores))
    flat = tf.reshape(scores, [batch, heads, frames * width])[..., frames - 1 : -1]
    skewed = tf.reshape(flat, [batch, heads, frames, width - 1])
    return skewed[..., : width - frames]


def relative_unshift(scores: tf.Tensor) -> tf.Tensor:
    """Writes scores by key, [B, H, T, K], back to where `relative_shift` takes them from.

    Returns:
        [B, H, T, K + T], zero where it takes nothing from.
    """
    batch, heads, frames, keys = tf.unstack(tf.shape(scores))
    skewed = tf.pad(scores, [[0, 0], [0, 0], [0, 0], [0, frames - 1]])
    flat = tf.reshape(skewed, [batch, heads, frames * (keys + frames - 1)])
    flat = tf.pad(flat, [[0, 0], [0, 0], [frames - 1, 1]])
    return tf.reshape(flat, [batch, heads, frames, keys + frames])
