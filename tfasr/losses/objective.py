"""What a model's batch costs, whatever parts the model has."""

from dataclasses import replace
from typing import Any, NamedTuple

import tensorflow as tf

from tfasr.configs.objective import JointObjective
from tfasr.losses.ctc import ctc_loss, required_frames
from tfasr.losses.joint import decoder_losses, joint_loss
from tfasr.losses.transducer import transducer_loss
from tfasr.models.acoustic_model import AcousticModel

# Sets the dropout of what follows the encoder apart from the encoder's.
_DECODER = 1_000_003

Batch = dict[str, tf.Tensor]


class ModelLosses(NamedTuple):
    """What a batch costs.

    Args:
        losses: [B] float32.
        short: [B] bool, whether an utterance is too short for CTC, or for a monotonic
            transducer, whose part is then 0.
        encoded: [B, T', D] float, the encoding.
        num_frames: [B] int32, its real frames.
    """

    losses: tf.Tensor
    short: tf.Tensor
    encoded: tf.Tensor
    num_frames: tf.Tensor


def model_losses(
    model: AcousticModel,
    batch: Batch,
    objective: JointObjective,
    seed: tf.Tensor | None = None,
) -> ModelLosses:
    """Computes CTC, joined with the losses of a decoder or a transducer where there is one.

    Args:
        model: The model.
        batch: "features" [B, T, F], "num_frames" [B], "tokens" [B, U], "num_tokens" [B].
        objective: Weights of the parts; one is of no effect where the model has no such part.
        seed: [2] int32 for dropout; None means inference.
    """
    encoded, mask = model.encode(batch["features"], batch["num_frames"], seed)
    frames = model.encoded_frames(batch["num_frames"])
    given = (batch["tokens"], batch["num_tokens"])
    if seed is not None:
        seed = tf.random.experimental.stateless_fold_in(seed, _DECODER)
    ctc, short = None, tf.zeros(tf.shape(frames), tf.bool)
    if model.head is not None:
        ctc = ctc_loss(model.head(encoded), frames, *given)
        short = required_frames(*given) > frames
    if model.decoder is not None:
        losses = _with_decoder(model, (encoded, mask), batch, objective, ctc, seed)
    elif model.prediction is not None:
        losses = _transducer(model, (encoded, frames), batch, objective, seed)
        if model.joint.monotonic:
            short |= batch["num_tokens"] > frames
        if ctc is not None:
            losses = objective.ctc_weight * ctc + (1 - objective.ctc_weight) * losses
    else:
        losses = ctc
    return ModelLosses(losses, short, encoded, frames)


def _with_decoder(
    model: AcousticModel,
    encoding: tuple[tf.Tensor, tf.Tensor],
    batch: Batch,
    objective: JointObjective,
    ctc: tf.Tensor,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    tokens, num_tokens = batch["tokens"], batch["num_tokens"]
    decoder: Any = model.decoder
    either = decoder(*encoding, tokens, num_tokens, seed=seed)
    left, right = decoder_losses(either, tokens, num_tokens, objective.smoothing)
    if right is None:
        objective = replace(objective, reverse_weight=0.0)
    return joint_loss(objective, ctc, left, right)


def _transducer(
    model: AcousticModel,
    encoding: tuple[tf.Tensor, tf.Tensor],
    batch: Batch,
    objective: JointObjective,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    tokens, num_tokens = batch["tokens"], batch["num_tokens"]
    predicted = model.prediction(tokens, num_tokens, seed=seed)
    return transducer_loss(
        model.joint, *encoding, predicted, tokens, num_tokens, fastemit=objective.fastemit
    )
