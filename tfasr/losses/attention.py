"""Label-smoothed divergence of a decoder's predictions."""

import math
from collections.abc import Callable

import tensorflow as tf


def label_smoothed_loss(
    logits: tf.Tensor, targets: tf.Tensor, lengths: tf.Tensor, smoothing: float
) -> tf.Tensor:
    """Sums each utterance's divergence KL(q || p) of predictions p from smoothed targets q.

    The target has `1 - smoothing`, each of the others `smoothing / (C - 1)`. The divergence is
    the cross-entropy less the entropy of q, a constant for each token: it is 0 where p = q and
    has the cross-entropy's gradient.

    Args:
        logits: [B, U, C] float.
        targets: [B, U] int32 in [0, C) inside their lengths.
        lengths: [B] int32, targets that count.
        smoothing: In [0, 1).

    Returns:
        [B] float32.

    Source: Szegedy et al. (2016), "Rethinking the Inception Architecture", section 7, with the
        true class left out of what is spread; Wu (2022), "Deep Sparse Conformer", section 4.1.
    """
    inside = tf.sequence_mask(lengths, tf.shape(targets)[1])
    classes = tf.shape(logits)[2]
    flat = tf.reshape(tf.cast(logits, tf.float32), [tf.size(targets), classes])
    flat_targets = tf.reshape(tf.where(inside, targets, 0), [-1])
    divergence = tf.reshape(_divergence(flat, flat_targets, smoothing), tf.shape(targets))
    return tf.reduce_sum(tf.where(inside, divergence, 0.0), 1)


def _divergence(logits: tf.Tensor, targets: tf.Tensor, smoothing: float) -> tf.Tensor:
    """KL(q || p), [N], of logits [N, C] from targets [N], without a tensor for q.

    With s = smoothing / (C - 1), the cross-entropy is that of hard targets less s times the sum
    of l_k - l_target over k, and its gradient p - q is the hard one's less s, but for C s more
    at the target.
    """
    classes = tf.cast(tf.shape(logits)[1], tf.float32)
    share = smoothing / tf.maximum(classes - 1, 1)
    places = tf.stack([tf.range(tf.size(targets)), targets], 1)  # [N, 2]
    entropy = -smoothing * tf.math.log(share) if smoothing else 0.0
    entropy -= (1 - smoothing) * math.log(1 - smoothing)

    @tf.custom_gradient
    def divergence(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        hard, hard_gradient = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=targets
        )

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            by_class = upstream[:, None] * (hard_gradient - share)
            return tf.tensor_scatter_nd_add(by_class, places, upstream * classes * share)

        # By differences, for a sum of logits would round off what all of them have in common.
        others = tf.reduce_sum(logits - tf.gather_nd(logits, places)[:, None], 1)
        return hard - share * others - entropy, gradient

    return divergence(logits)
