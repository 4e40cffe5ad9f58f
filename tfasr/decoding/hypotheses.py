"""N-best lists: what searches give, and what rescoring reorders."""

from typing import NamedTuple

import tensorflow as tf


class NBest(NamedTuple):
    """The best hypotheses of each utterance, best first.

    An utterance may have fewer than N: an absent hypothesis comes last, with the score -inf and
    no tokens.

    Args:
        tokens: [B, N, U] int32; 0 beyond `num_tokens`.
        num_tokens: [B, N] int32.
        scores: [B, N] float32, natural logarithms.
    """

    tokens: tf.Tensor
    num_tokens: tf.Tensor
    scores: tf.Tensor


def best_first(tokens: tf.Tensor, num_tokens: tf.Tensor, scores: tf.Tensor) -> NBest:
    """Orders hypotheses by score and blanks out those that score -inf.

    Equal scores keep their order.

    Args:
        tokens: [B, N, U] int32; whatever stands in the padding.
        num_tokens: [B, N] int32.
        scores: [B, N] float32.

    Returns:
        The same hypotheses; U is that of the longest.
    """
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    tokens, num_tokens, scores = (
        tf.gather(x, order, batch_dims=1) for x in (tokens, num_tokens, scores)
    )
    num_tokens = tf.where(scores > -float("inf"), num_tokens, 0)
    longest = tf.reduce_max(tf.pad(num_tokens, [[0, 1], [0, 1]]))
    inside = tf.sequence_mask(num_tokens, longest)
    return NBest(tf.where(inside, tokens[..., :longest], 0), num_tokens, scores)


def best_tokens(nbest: NBest) -> tf.RaggedTensor:
    """Takes each utterance's best hypothesis, as `greedy.detokenize` takes it: [B, None] int32."""
    return tf.RaggedTensor.from_tensor(nbest.tokens[:, 0], lengths=nbest.num_tokens[:, 0])
