"""Multi-head self-attention of the few queries that need it, with relative positions."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfasr.configs.seeds import counted_seed
from tfasr.models.attention import RelativeAttention
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.normalization import frames_or_all

# Without a seed the same keys are looked at every time, so that inference repeats itself.
INFERENCE_SEED = counted_seed(0, "prob_sparse_keys")

# As many draws as the longest sequence may want, so that no other length changes any of them.
_MAX_LOG = math.ceil(math.log(2**31))


def log_count(num_frames: tf.Tensor, factor: int) -> tf.Tensor:
    """Counts min(L, factor * ceil(ln L)), taking ln 2 for a single frame.

    Args:
        num_frames: L, int32 of any shape.
        factor: c1 or c2 of the paper.

    Returns:
        int32 like `num_frames`, rising with it.

    Source: Wu (2022), "Deep Sparse Conformer", algorithm 1, lines 12 and 14.
    """
    # In float64, for ln 59874 is 11 less two parts in ten million.
    logarithm = tf.math.log(tf.cast(tf.maximum(num_frames, 2), tf.float64))
    return tf.minimum(num_frames, factor * tf.cast(tf.math.ceil(logarithm), tf.int32))


def sample_keys(
    mask: tf.Tensor, factor: int, seed: tf.Tensor | tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws `log_count` real frames of each utterance, none twice.

    An utterance is cut into as many equal stretches, and one frame drawn from each, so no part
    of it goes unseen. The seed and the utterance's own real frames alone decide which.

    Args:
        mask: [B, T] bool, True on real frames.
        factor: c1 of the paper.
        seed: [2] int32.

    Returns:
        [B, S] int32 frames, and [B, S] bool, True where a frame was drawn; S is T's count.

    Source: Wu (2022), "Deep Sparse Conformer", algorithm 1, lines 12 and 13.
    """
    real = tf.cumsum(tf.cast(mask, tf.int32), 1)  # [B, T]
    num_frames = real[:, -1:]
    num_samples = log_count(num_frames, factor)
    slot = tf.range(log_count(tf.shape(mask)[1], factor))  # [S]
    bounds = num_frames * tf.stack([slot, slot + 1])[:, None] // tf.maximum(num_samples, 1)
    start, end = tf.unstack(bounds)  # [B, S]
    draws = tf.random.stateless_uniform([factor * _MAX_LOG], seed, 0, tf.int32.max, tf.int32)
    drawn = start + draws[: tf.size(slot)] % tf.maximum(end - start, 1)
    frames = tf.searchsorted(real, drawn + 1)
    return tf.minimum(frames, tf.shape(mask)[1] - 1), slot < num_samples


def sparsity(
    query: tf.Tensor, key: tf.Tensor, drawn: tf.Tensor, num_frames: tf.Tensor
) -> tf.Tensor:
    """Measures how far a query is from weighing all keys alike, by a sample of the keys.

    Args:
        query: [B, H, T, D/H], content bias included.
        key: [B, H, S, D/H], the sample.
        drawn: [B, S] bool, True where `key` belongs to the sample.
        num_frames: L, [B] int32.

    Returns:
        [B, H, T] float32: the greatest score less the sum of scores over L.

    Source: Wu (2022), "Deep Sparse Conformer", equation 8 and algorithm 1, line 15.
    """
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)  # [B, H, T, S]
    drawn = drawn[:, None, None]
    greatest = tf.reduce_max(tf.where(drawn, scores, tf.float32.min), -1)
    total = tf.reduce_sum(tf.where(drawn, scores, 0.0), -1)
    return greatest - total / tf.cast(tf.maximum(num_frames, 1), tf.float32)[:, None, None]


def sinusoids(num_frames: tf.Tensor, dim: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Sines and cosines of places 0, 1, ..., T - 1, at the frequencies of `relative_positions`.

    Args:
        num_frames: T, scalar int32.
        dim: D, even.

    Returns:
        Two [T, D/2] float32.
    """
    frequency = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float32) / dim)
    # Whole turns go in float64: a distance is a difference of two places, and late ones, rounded
    # to float32, would blur the short distances between them.
    turns = frequency.astype(np.float64) / (2 * np.pi)
    turns = tf.cast(tf.range(num_frames), tf.float64)[:, None] * turns
    angle = 2 * np.pi * tf.cast(turns - tf.floor(turns), tf.float32)
    return tf.sin(angle), tf.cos(angle)


@keras.saving.register_keras_serializable(package="tfasr")
class ProbSparseAttention(RelativeAttention):
    """Relative attention in which only the queries that single out keys attend.

    Of L frames, `query_factor * ceil(ln L)` attend in each head, to all keys; the others keep
    their own value. Time and memory grow as L ln L. Where all attend, this computes what
    `RelativeAttention` does; its weights have the same names and shapes.

    Args:
        num_heads: Heads H; divides D.
        dropout: Rate on the attention weights and on the output, in [0, 1).
        sample_factor: c1: `c1 * ceil(ln L)` keys are looked at to choose the queries.
        query_factor: c2: `c2 * ceil(ln L)` queries attend.
        missing_heads: As of `RelativeAttention`.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        seed: [2] int32 for dropout and the sample of keys; None turns dropout off and always
            takes the same sample.
        returns: [B, T, D]; padded frames keep their own value, and nobody attends to them.

    Raises:
        ValueError: `num_heads` does not divide D, or a factor is below 1.

    Source: Wu (2022), "Deep Sparse Conformer", algorithm 1, with the distance from key to query
        as Dai et al. (2019), section 3.3, have it.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        sample_factor: int = 5,
        query_factor: int = 5,
        missing_heads: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, dropout, missing_heads, **kwargs)
        for name, factor in {"sample_factor": sample_factor, "query_factor": query_factor}.items():
            if factor < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={factor}")
        self.sample_factor = sample_factor
        self.query_factor = query_factor

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        mask = frames_or_all(mask, x)
        y = self.norm(x)
        query, key, value = (
            self._heads(dense(y)) for dense in (self.query_dense, self.key_dense, self.value_dense)
        )  # [B, H, T, D/H]
        query = query * query.shape[-1] ** -0.5
        chosen, attends = self._choose(query, key, mask, next(seeds))
        rows = _rows(chosen, tf.shape(x)[1])
        scores = self._scores(_gather_rows(query, rows), key, chosen)
        weights = tf.nn.softmax(tf.where(mask[:, None, None], scores, scores.dtype.min))
        weights = dropout(tf.cast(weights, x.dtype), self.dropout, next(seeds))
        mixed = tf.where(attends, tf.matmul(weights, value), _gather_rows(value, rows))
        mixed = _replace_rows(value, rows, mixed)
        return dropout(self._joined(mixed), self.dropout, next(seeds))

    def _choose(
        self, query: tf.Tensor, key: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns [B, H, U] frames and [B, 1, U, 1] bool, True for as many as shall attend."""
        num_frames = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
        sample, drawn = sample_keys(
            mask, self.sample_factor, INFERENCE_SEED if seed is None else seed
        )
        key = tf.gather(tf.stop_gradient(key), sample, axis=2, batch_dims=1)
        query = tf.stop_gradient(query + self._scaled(self.content_bias, query))
        measure = sparsity(query, key, drawn, num_frames)
        measure = tf.where(mask[:, None], measure, -np.inf)
        slots = log_count(tf.shape(mask)[1], self.query_factor)
        attends = tf.sequence_mask(log_count(num_frames, self.query_factor), slots)
        return tf.math.top_k(measure, slots).indices, attends[:, None, :, None]

    def _scores(self, query: tf.Tensor, key: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """Scores all keys for the chosen queries: [B, H, U, D/H] to [B, H, U, T] float32."""
        content_query = query + self._scaled(self.content_bias, query)
        by_content = tf.matmul(content_query, key, transpose_b=True)
        position_query = query + self._scaled(self.position_bias, query)
        by_distance = self._by_distance(position_query, chosen, tf.shape(key)[2])
        return tf.cast(by_content, tf.float32) + tf.cast(by_distance, tf.float32)

    def _by_distance(self, query: tf.Tensor, chosen: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Returns [B, H, U, T], the scores that `relative_shift` would leave for these queries.

        With a and b the query's parts for sines and cosines,
        a sin(i - j) + b cos(i - j) = (b sin i - a cos i) sin j + (a sin i + b cos i) cos j,
        so that distances need neither a table of 2 T - 1 nor a shift.
        """
        size, dim = query.shape[-1], query.shape[-1] * self.num_heads
        kernel = tf.reshape(self.position_dense.kernel, [dim, self.heads, size])
        query = tf.einsum("bhus,dhs->bhud", query, tf.cast(kernel, query.dtype))
        a, b = tf.split(tf.cast(query, tf.float32), 2, -1)  # [B, H, U, D/2]
        sine, cosine = sinusoids(num_frames, dim)  # [T, D/2]
        sine_i, cosine_i = tf.gather(sine, chosen), tf.gather(cosine, chosen)  # [B, H, U, D/2]
        turned = tf.concat([b * sine_i - a * cosine_i, a * sine_i + b * cosine_i], -1)
        turned = tf.reshape(tf.cast(turned, query.dtype), [-1, dim])  # [B H U, D]
        places = tf.cast(tf.concat([sine, cosine], -1), query.dtype)  # [T, D]
        scores = tf.matmul(turned, places, transpose_b=True)
        return tf.reshape(scores, tf.concat([tf.shape(chosen), [num_frames]], 0))

    def _scaled(self, bias: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        return tf.cast(bias, query.dtype)[:, None] * query.shape[-1] ** -0.5

    def get_config(self) -> dict[str, Any]:
        factors = {"sample_factor": self.sample_factor, "query_factor": self.query_factor}
        return {**super().get_config(), **factors}


def _rows(chosen: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
    """[B, H, U] frames as rows of [B H T, D/H]."""
    first = tf.range(tf.reduce_prod(tf.shape(chosen)[:2])) * num_frames
    return chosen + tf.reshape(first, tf.shape(chosen)[:2])[..., None]


def _gather_rows(x: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    # `tf.gather` would give its gradient as slices, which a reshape must make dense again.
    return tf.gather_nd(tf.reshape(x, [-1, x.shape[-1]]), rows[..., None])


def _replace_rows(x: tf.Tensor, rows: tf.Tensor, replacement: tf.Tensor) -> tf.Tensor:
    flat = tf.reshape(x, [-1, x.shape[-1]])
    return tf.reshape(tf.tensor_scatter_nd_update(flat, rows[..., None], replacement), tf.shape(x))
