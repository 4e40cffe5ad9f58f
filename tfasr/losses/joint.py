"""The joint objective of CTC and of decoders in two directions."""

import tensorflow as tf

from tfasr.configs.objective import JointObjective
from tfasr.losses.attention import label_smoothed_loss
from tfasr.models.decoder import reverse_tokens, with_end


def decoder_losses(
    logits: tuple[tf.Tensor, tf.Tensor | None],
    tokens: tf.Tensor,
    num_tokens: tf.Tensor,
    smoothing: float,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Computes the label-smoothed losses of the tokens and the end, read either way.

    Args:
        logits: [B, U + 1, V + 1] from the left and from the right, as `BidirectionalDecoder`
            returns them; the right may be None.
        tokens: [B, U] int32.
        num_tokens: [B] int32.
        smoothing: In [0, 1).

    Returns:
        [B] float32 from the left and from the right; None where the logits are.
    """
    left, right = logits
    end = left.shape[-1] - 1
    targets = with_end(tokens, num_tokens, end)
    left = label_smoothed_loss(left, targets, num_tokens + 1, smoothing)
    if right is None:
        return left, None
    targets = with_end(reverse_tokens(tokens, num_tokens), num_tokens, end)
    return left, label_smoothed_loss(right, targets, num_tokens + 1, smoothing)


def joint_loss(
    objective: JointObjective, ctc: tf.Tensor, left: tf.Tensor, right: tf.Tensor | None
) -> tf.Tensor:
    """Weighs the losses of each utterance.

    Args:
        objective: The weights.
        ctc: [B] float32.
        left: [B] float32, of the decoder from the left.
        right: [B] float32, of the decoder from the right; None where there is none.

    Returns:
        [B] float32.

    Raises:
        ValueError: There is no decoder from the right, but a weight for it.

    Source: Wu (2022), "Deep Sparse Conformer", eq. 16.
    """
    if right is None:
        if objective.reverse_weight:
            raise ValueError(
                "reverse_weight must be 0 without a decoder from the right; "
                f"got reverse_weight={objective.reverse_weight}"
            )
        attention = left
    else:
        attention = (1 - objective.reverse_weight) * left + objective.reverse_weight * right
    return objective.ctc_weight * ctc + (1 - objective.ctc_weight) * attention
