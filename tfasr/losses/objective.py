"""What a model's batch costs, whatever parts the model has."""

from dataclasses import replace

import tensorflow as tf

from tfasr.configs.objective import JointObjective
from tfasr.losses.ctc import ctc_loss, required_frames
from tfasr.losses.joint import decoder_losses, joint_loss
from tfasr.models.conformer import ConformerCTC

# Sets the decoder's dropout apart from the encoder's.
_DECODER = 1_000_003


def model_losses(
    model: ConformerCTC,
    batch: dict[str, tf.Tensor],
    objective: JointObjective,
    seed: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes CTC, joined with the decoder's losses where the model has one.

    Args:
        model: The model.
        batch: "features" [B, T, F], "num_frames" [B], "tokens" [B, U], "num_tokens" [B].
        objective: Weights of the parts; one is of no effect where the model has no such part.
        seed: [2] int32 for dropout; None means inference.

    Returns:
        [B] float32 losses; [B] bool, whether an utterance is too short for CTC, whose part is
        then 0; and the CTC logits [B, T', V + 1].
    """
    tokens, num_tokens = batch["tokens"], batch["num_tokens"]
    encoded, mask = model.encode(batch["features"], batch["num_frames"], seed)
    logits = model.head(encoded)
    frames = model.encoded_frames(batch["num_frames"])
    ctc = ctc_loss(logits, frames, tokens, num_tokens)
    short = required_frames(tokens, num_tokens) > frames
    if model.decoder is None:
        return ctc, short, logits
    if seed is not None:
        seed = tf.random.experimental.stateless_fold_in(seed, _DECODER)
    either = model.decoder(encoded, mask, tokens, num_tokens, seed=seed)
    left, right = decoder_losses(either, tokens, num_tokens, objective.smoothing)
    if right is None:
        objective = replace(objective, reverse_weight=0.0)
    return joint_loss(objective, ctc, left, right), short, logits
