"""The best tokens of any model without a search."""

import tensorflow as tf

from tfasr.decoding.greedy import greedy_tokens
from tfasr.decoding.transducer_greedy import transducer_greedy
from tfasr.models.acoustic_model import AcousticModel


def first_best(model: AcousticModel, encoded: tf.Tensor, num_frames: tf.Tensor) -> tf.RaggedTensor:
    """Takes the best symbol at each turn: of the transducer, or of CTC where there is none.

    Args:
        model: The model.
        encoded: [B, T, D] float, as `AcousticModel.encode` gives it.
        num_frames: [B] int32, real frames of the encoding.

    Returns:
        [B, None] int32, ragged.
    """
    if model.prediction is None:
        return greedy_tokens(model.head(encoded), num_frames)
    found = transducer_greedy(model.prediction, model.joint, encoded, num_frames)
    return tf.RaggedTensor.from_tensor(found.tokens, lengths=found.num_tokens)
