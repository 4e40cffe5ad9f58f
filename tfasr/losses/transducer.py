"""The transducer's loss, fused with its joint network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfasr.losses.transducer_lattice import sum_alignments
from tfasr.models.transducer import JointNetwork

# Logits that are held at a time.
_CHUNK = 1 << 21
# The hyperbolic tangent of this is 1 in float32.
_SATURATED = 20.0
# Under this, a probability is taken from its logarithm.
_TINY = 1e-30
# Share in the alignments under which a pair is left out of the gradient, by the type of the
# products. What is left out of a frame's sum, which is 1 at least, is twice that: less than
# the sums over alignments, or the products, are rounded by.
_NEGLIGIBLE = {"float32": 2.0**-20, "bfloat16": 2.0**-13}


class _Sides(NamedTuple):
    """What logits are made of, all float32.

    Args:
        frames: [B T, J], the projected encoding.
        places: [B (U + 1), J], the projected prediction.
        weights: [J, V + 1], of the output.
    """

    frames: tf.Tensor
    places: tf.Tensor
    weights: tf.Tensor


class _Pairs(NamedTuple):
    """N pairs of a frame and a place among the tokens.

    Args:
        frames: [N] int32, the frame's row in `_Sides.frames`.
        places: [N] int32, the place's row in `_Sides.places`.
        symbols: [N] int32, the token that comes next; any where none does.
    """

    frames: tf.Tensor
    places: tf.Tensor
    symbols: tf.Tensor


def transducer_loss(
    joint: JointNetwork,
    encoded: tf.Tensor,
    num_frames: tf.Tensor,
    predicted: tf.Tensor,
    tokens: tf.Tensor,
    num_tokens: tf.Tensor,
    *,
    fastemit: float = 0.0,
) -> tf.Tensor:
    """Computes the negative log-probability of the tokens, summed over all alignments.

    A frame may emit any number of tokens, so there may be more tokens than frames; of a
    monotonic joint network, one at most. Without tokens the loss is that of the all-blank path.
    Where there is no alignment, as without frames, loss and gradient are 0.

    The joint network runs for a few million logits at a time, and again for the gradient, so
    nothing is as large as [B, T, U + 1, V + 1]. It leaves out padding, and in the gradient the
    pairs of a frame and a place that hardly any alignment goes through. Its last products are
    in its compute type, all else is float32.

    Args:
        joint: Built; the blank is its `vocabulary` V.
        encoded: [B, T, D] float.
        num_frames: [B] int32, real frames of `encoded`.
        predicted: [B, U + 1, P] float, as `PredictionNetwork` returns it.
        tokens: [B, U] int32 in [0, V) inside their lengths.
        num_tokens: [B] int32.
        fastemit: How much tokens are drawn to earlier frames, at least 0: the gradient by the
            log-probability of a token, not of a blank, is taken `1 + fastemit` times. The value
            stays that of the plain loss.

    Returns:
        [B] float32.

    Source: Graves (2012), "Sequence Transduction with Recurrent Neural Networks", section 2;
        Yu et al. (2021), "FastEmit", from eq. 10 on; `sum_alignments`.
    """
    shape = (*tf.unstack(tf.shape(encoded)[:2]), tf.shape(predicted)[1])  # [B, T, U + 1]
    pairs, where = _real_pairs(shape, num_frames, tokens, num_tokens)
    dtype = joint.compute_dtype

    @tf.custom_gradient
    def loss(*sides: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        scores = tf.scatter_nd(where, _scores(_Sides(*sides), pairs, dtype), [*shape, 2])
        blanks, labels = tf.unstack(scores, axis=-1)
        alignments = sum_alignments(blanks, labels, num_frames, num_tokens, joint.monotonic)
        shares = tf.gather_nd(tf.stack([alignments.blanks, alignments.labels], -1), where)

        def gradient(upstream: tf.Tensor) -> _Sides:
            # What is no number stays, to be seen.
            kept = tf.where(~(tf.reduce_sum(shares, 1) <= _NEGLIGIBLE[dtype]))[:, 0]
            chosen, taken = tf.nest.map_structure(lambda x: tf.gather(x, kept), (pairs, shares))
            scale = tf.gather(upstream, tf.gather(where[:, 0], kept))
            taken *= [1.0, 1.0 + fastemit]
            return _gradients(_Sides(*sides), chosen, taken, scale, dtype)

        return -alignments.log_probability, gradient

    return loss(*_sides(joint, encoded, predicted))


def token_frames(
    joint: JointNetwork,
    encoded: tf.Tensor,
    num_frames: tf.Tensor,
    predicted: tf.Tensor,
    tokens: tf.Tensor,
    num_tokens: tf.Tensor,
) -> tf.Tensor:
    """Finds the frame in which most alignments, by their probability, emit each token.

    Never earlier than that of the token before. Where there is no alignment, -1.

    Args:
        joint: As for `transducer_loss`, like all that follows.
        encoded: [B, T, D] float.
        num_frames: [B] int32.
        predicted: [B, U + 1, P] float.
        tokens: [B, U] int32.
        num_tokens: [B] int32.

    Returns:
        [B, U] int32; -1 in the padding.
    """
    shape = (*tf.unstack(tf.shape(encoded)[:2]), tf.shape(predicted)[1])
    pairs, where = _real_pairs(shape, num_frames, tokens, num_tokens)
    scores = _scores(_sides(joint, encoded, predicted), pairs, joint.compute_dtype)
    blanks, labels = tf.unstack(tf.scatter_nd(where, scores, [*shape, 2]), axis=-1)
    shares = sum_alignments(blanks, labels, num_frames, num_tokens, joint.monotonic).labels
    shares = shares[:, :, :-1]
    frames = tf.argmax(shares, 1, tf.int32)
    places = tf.shape(tokens)[1]
    not_later = tf.linalg.band_part(tf.ones([places, places], tf.int32), -1, 0)
    frames = tf.reduce_max(frames[:, None] * not_later, -1)
    return tf.where(tf.reduce_any(shares > 0, 1), frames, -1)


def _real_pairs(
    shape: tuple[tf.Tensor, ...], num_frames: tf.Tensor, tokens: tf.Tensor, num_tokens: tf.Tensor
) -> tuple[_Pairs, tf.Tensor]:
    """Lists the pairs without padding, and where in [B, T, U + 1] they are, [N, 3] int32."""
    in_frames = tf.sequence_mask(num_frames, shape[1])[:, :, None]
    in_places = tf.sequence_mask(num_tokens + 1, shape[2])[:, None]
    where = tf.cast(tf.where(in_frames & in_places), tf.int32)
    utterance, frame, place = tf.unstack(where, axis=1)
    places = utterance * shape[2] + place
    has_token = tf.sequence_mask(num_tokens, shape[2])
    symbols = tf.where(has_token, tf.pad(tokens, [[0, 0], [0, 1]]), 0)
    symbols = tf.gather(tf.reshape(symbols, [-1]), places)
    return _Pairs(utterance * shape[1] + frame, places, symbols), where


def _sides(joint: JointNetwork, encoded: tf.Tensor, predicted: tf.Tensor) -> _Sides:
    frames = tf.cast(joint.encoder_dense(encoded), tf.float32)
    places = tf.cast(joint.prediction_dense(predicted), tf.float32)
    # Through a unit that is always 1 the bias is a row of the weights.
    frames = tf.pad(frames, [[0, 0], [0, 0], [0, 1]], constant_values=_SATURATED)
    places = tf.pad(places, [[0, 0], [0, 0], [0, 1]])
    width = joint.joint_dim + 1
    output = joint.output_dense
    return _Sides(
        tf.reshape(frames, [-1, width]),
        tf.reshape(places, [-1, width]),
        tf.concat([output.kernel, output.bias[None]], 0),
    )


def _scores(sides: _Sides, pairs: _Pairs, dtype: str) -> tf.Tensor:
    """Computes log-probabilities of the blank and of the next token, [N, 2]."""
    weights = tf.cast(sides.weights, dtype)

    def body(index: tf.Tensor, scores: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        some = _some(pairs, index, size)
        logits = _logits(_hidden(sides, some), weights)
        columns = _columns(some, logits)
        # The softmax is one pass over the logits, where a logarithm's sum takes four.
        both = tf.gather(tf.nn.softmax(logits), columns, batch_dims=1)
        both = tf.cond(
            tf.reduce_min(both) > _TINY,
            lambda: tf.math.log(both),
            lambda: tf.gather(tf.nn.log_softmax(logits), columns, batch_dims=1),
        )
        return index + 1, scores.write(index, both)

    size, count = _chunks(weights, pairs)
    scores = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=[None, 2])
    _, scores = tf.while_loop(
        lambda index, _: index < count, body, (0, scores), parallel_iterations=1
    )
    return scores.concat()


def _gradients(
    sides: _Sides, pairs: _Pairs, shares: tf.Tensor, scale: tf.Tensor, dtype: str
) -> _Sides:
    """Computes gradients from the shares of a pair's blank and token, [N, 2], and scale [N]."""
    weights = tf.cast(sides.weights, dtype)
    share = tf.reduce_sum(shares, 1, keepdims=True)
    given = (pairs, shares / share, share * scale[:, None])

    def body(index: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        some, wanted, weight = _some(given, index, size)
        hidden = _hidden(sides, some)
        logits = _logits(hidden, weights)
        columns = _columns(some, logits)
        rows = tf.broadcast_to(tf.range(tf.shape(columns)[0])[:, None], tf.shape(columns))
        of_logits = tf.tensor_scatter_nd_sub(
            tf.nn.softmax(logits), tf.stack([rows, columns], -1), wanted
        )
        of_logits = tf.cast(of_logits, dtype)
        of_hidden = tf.cast(tf.matmul(of_logits, weights, transpose_b=True), tf.float32)
        of_sum = of_hidden * (weight * (1 - hidden * hidden))
        of_weights = tf.matmul(tf.cast(weight * hidden, dtype), of_logits, transpose_a=True)
        return (
            index + 1,
            tf.tensor_scatter_nd_add(sums[0], some.frames[:, None], of_sum),
            tf.tensor_scatter_nd_add(sums[1], some.places[:, None], of_sum),
            sums[2] + tf.cast(of_weights, tf.float32),
        )

    size, count = _chunks(weights, pairs)
    zeros = (tf.zeros_like(side) for side in sides)
    _, *sums = tf.while_loop(
        lambda index, *_: index < count, body, (0, *zeros), parallel_iterations=1
    )
    return _Sides(*sums)


def _chunks(weights: tf.Tensor, pairs: _Pairs) -> tuple[tf.Tensor, tf.Tensor]:
    """Pairs of a chunk, and chunks, of which there is one at least."""
    size = _CHUNK // tf.reduce_max(tf.shape(weights))
    return size, tf.maximum((tf.size(pairs.frames) + size - 1) // size, 1)


def _some(given: Any, index: tf.Tensor, size: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda x: x[index * size : (index + 1) * size], given)


def _hidden(sides: _Sides, pairs: _Pairs) -> tf.Tensor:
    return tf.tanh(tf.gather(sides.frames, pairs.frames) + tf.gather(sides.places, pairs.places))


def _logits(hidden: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.matmul(tf.cast(hidden, weights.dtype), weights), tf.float32)


def _columns(pairs: _Pairs, logits: tf.Tensor) -> tf.Tensor:
    """Where the logits of the blank and of the next token are, [N, 2] int32."""
    blank = tf.fill(tf.shape(pairs.symbols), tf.shape(logits)[1] - 1)
    return tf.stack([blank, pairs.symbols], 1)
