"""Hypotheses of a whole data set."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfasr.configs.objective import JointObjective
from tfasr.data.batches import MODEL_INPUTS
from tfasr.decoding.first_best import first_best
from tfasr.decoding.greedy import detokenize
from tfasr.evaluation.error_rates import evaluate_texts
from tfasr.losses.objective import model_losses
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.fusion import inferring

_OBJECTIVE = JointObjective()


@dataclass(frozen=True)
class Hypothesis:
    """What a model heard in one utterance, beside what was said."""

    utterance_id: str
    reference: str
    text: str
    speaker: str
    domain: str


Transcriber = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def model_transcriber(model: AcousticModel, pieces: Sequence[str]) -> Transcriber:
    """Makes the function from features [B, T, F] and real frames [B] to text [B]."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, model.num_mels], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ],
        autograph=False,
    )
    def transcribe(features: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        with inferring():
            encoded, _ = model.encode(features, num_frames)
            return detokenize(first_best(model, encoded, model.encoded_frames(num_frames)), pieces)

    return transcribe  # type: ignore[no-any-return]


def transcribe_batches(
    transcribe: Transcriber,
    batches: Iterable[dict[str, tf.Tensor]],
    report: Callable[[int], None] = lambda done: None,
) -> list[Hypothesis]:
    """Transcribes every utterance, in the order of the batches.

    Args:
        transcribe: From features and real frames to text.
        batches: As `evaluation_batches` makes them.
        report: Called with the utterances done after each batch.
    """
    hypotheses: list[Hypothesis] = []
    for batch in batches:
        texts = transcribe(batch["features"], batch["num_frames"])
        columns = [batch["id"], batch["text"], texts, batch["speaker"], batch["domain"]]
        rows = zip(*(column.numpy() for column in columns), strict=True)
        hypotheses += [Hypothesis(*(value.decode() for value in row)) for row in rows]
        report(len(hypotheses))
    return hypotheses


class Validation:
    """From a model to its loss and error rates on the same utterances each time.

    Args:
        batches: As `evaluation_batches` makes them.
        pieces: Surfaces of the tokens.
        objective: What the loss is made of, for a model with a decoder.
    """

    def __init__(
        self,
        batches: tf.data.Dataset,
        pieces: Sequence[str],
        objective: JointObjective = _OBJECTIVE,
    ) -> None:
        self.batches = batches
        self.pieces = pieces
        self.objective = objective
        self._traced: tuple[AcousticModel, Callable[..., tuple[tf.Tensor, tf.Tensor]]] | None = None

    def __call__(self, model: AcousticModel) -> dict[str, float]:
        """Returns "valid_loss", a mean over utterances, "wer" and "cer" of the present weights."""
        if self._traced is None or self._traced[0] is not model:
            self._traced = (model, self._trace(model))
        losses: list[float] = []
        references: list[str] = []
        texts: list[str] = []
        for batch in self.batches:
            loss, text = self._traced[1](*(batch[name] for name in MODEL_INPUTS))
            losses += loss.numpy().tolist()
            texts += [line.decode() for line in text.numpy()]
            references += [line.decode() for line in batch["text"].numpy()]
        result = evaluate_texts(references, texts)
        return {"valid_loss": float(np.mean(losses)), "wer": result.wer, "cer": result.cer}

    def _trace(self, model: AcousticModel) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        signature = [
            tf.TensorSpec([None, None, model.num_mels], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ]

        @tf.function(input_signature=signature, autograph=False)
        def validate(*inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = dict(zip(MODEL_INPUTS, inputs, strict=True))
            with inferring():
                cost = model_losses(model, batch, self.objective)
            tokens = first_best(model, cost.encoded, cost.num_frames)
            return cost.losses, detokenize(tokens, self.pieces)

        return validate  # type: ignore[no-any-return]
