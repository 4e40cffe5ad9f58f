"""Orders n-best lists anew by what other models say of them."""

import tensorflow as tf

from tfasr.decoding.hypotheses import NBest, best_first
from tfasr.decoding.language_model import Fusion, lm_score


def rescore(
    nbest: NBest,
    ctc_scores: tf.Tensor,
    left: tf.Tensor,
    right: tf.Tensor,
    *,
    ctc_weight: float,
    reverse_weight: float,
) -> NBest:
    """Scores hypotheses as `(1 - r) left + r right + ctc_weight ctc`, r = `reverse_weight`.

    An absent hypothesis stays absent; one that a term with a weight calls impossible becomes so.

    Args:
        nbest: The hypotheses; their scores say only which are present.
        ctc_scores: [B, N] float32, log-probabilities by CTC: a search's scores without fusion, or
            `ctc_score`'s.
        left: [B, N] float32, log-probabilities with the end by the decoder that reads from the
            left.
        right: [B, N] float32, the same from the right; unread where `reverse_weight` is 0.
        ctc_weight: Not negative.
        reverse_weight: In [0, 1].

    Returns:
        The hypotheses in their new order.

    Raises:
        ValueError: A weight is out of its range.

    Source: Wu (2022), "Deep Sparse Conformer", section 4.1; Zhang et al. (2020), "Unified
        Streaming and Non-streaming Two-pass End-to-end Model", section 2.3, for the CTC term.
    """
    if not ctc_weight >= 0:
        raise ValueError(f"ctc_weight must not be negative; got ctc_weight={ctc_weight}")
    if not 0 <= reverse_weight <= 1:
        raise ValueError(f"reverse_weight must be from 0 to 1; got reverse_weight={reverse_weight}")
    # A weight of 0 silences -inf, too.
    scores = (
        tf.math.multiply_no_nan(left, 1 - reverse_weight)
        + tf.math.multiply_no_nan(right, reverse_weight)
        + tf.math.multiply_no_nan(ctc_scores, ctc_weight)
    )
    return _ordered(nbest, scores)


def add_language_model(nbest: NBest, fusion: Fusion) -> NBest:
    """Adds a language model's scores, ends included, and a bonus for each token.

    Args:
        nbest: The hypotheses, with scores to add to.
        fusion: The language model, its weight and the bonus.

    Returns:
        The hypotheses in their new order.
    """
    lm = lm_score(fusion.language_model, nbest.tokens, nbest.num_tokens)
    return _ordered(nbest, fusion.fuse(nbest.scores, lm, nbest.num_tokens))


def _ordered(nbest: NBest, scores: tf.Tensor) -> NBest:
    absent = -float("inf")
    scores = tf.where(nbest.scores > absent, scores, absent)
    return best_first(nbest.tokens, nbest.num_tokens, scores)
