"""Hypotheses of a whole data set."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfasr.decoding.greedy import detokenize, greedy_tokens
from tfasr.evaluation.error_rates import evaluate_texts
from tfasr.models.conformer import ConformerCTC


@dataclass(frozen=True)
class Hypothesis:
    """What a model heard in one utterance, beside what was said."""

    utterance_id: str
    reference: str
    text: str
    speaker: str
    domain: str


Transcriber = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def model_transcriber(model: ConformerCTC, pieces: Sequence[str]) -> Transcriber:
    """Makes the function from features [B, T, F] and real frames [B] to text [B]."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, model.num_mels], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ],
        autograph=False,
    )
    def transcribe(features: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        logits = model(features, num_frames)
        return detokenize(greedy_tokens(logits, model.encoded_frames(num_frames)), pieces)

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
    """From a model to its error rates on the same utterances each time.

    Args:
        batches: As `evaluation_batches` makes them.
        pieces: Surfaces of the tokens.
    """

    def __init__(self, batches: tf.data.Dataset, pieces: Sequence[str]) -> None:
        self.batches = batches
        self.pieces = pieces
        self._traced: tuple[ConformerCTC, Transcriber] | None = None

    def __call__(self, model: ConformerCTC) -> dict[str, float]:
        """Returns "wer" and "cer" of the model's present weights, as shares."""
        if self._traced is None or self._traced[0] is not model:
            self._traced = (model, model_transcriber(model, self.pieces))
        hypotheses = transcribe_batches(self._traced[1], self.batches)
        result = evaluate_texts([h.reference for h in hypotheses], [h.text for h in hypotheses])
        return {"wer": result.wer, "cer": result.cer}
