"""Decoders of whole data sets: one graph an evaluation, and how fast it is."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from tfasr.decoding.greedy import detokenize
from tfasr.decoding.hypotheses import NBest
from tfasr.decoding.word_times import Alignment, WordTimes, word_times
from tfasr.evaluation.search import Heard, Recogniser, Search, by_place
from tfasr.evaluation.transcription import Hypothesis, model_transcriber
from tfasr.models.fusion import inferring


class Decoded(NamedTuple):
    """The N best hypotheses of a batch, best first.

    Args:
        texts: [B, N] string.
        scores: [B, N] float32, -inf where there is no hypothesis; None of a greedy decoder.
        times: The words of all B N hypotheses, row by row; None where nobody asked.
    """

    texts: tf.Tensor
    scores: tf.Tensor | None = None
    times: WordTimes | None = None


# From each model's features [B, T, F] and real frames [B].
Decoder = Callable[[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]], Decoded]


def greedy_decoder(recogniser: Recogniser) -> Decoder:
    """Makes the decoder of one model's best tokens."""
    transcribe = model_transcriber(recogniser.model, recogniser.pieces)

    def decode(features: tuple[tf.Tensor, ...], num_frames: tuple[tf.Tensor, ...]) -> Decoded:
        return Decoded(transcribe(*features, *num_frames)[:, None])

    return decode


def search_decoder(search: Search) -> Decoder:
    """Makes the decoder of a search; it gives `nbest` hypotheses, or the best one only.

    Words are timed by the first model.
    """
    pieces = search.recognisers[0].pieces
    wanted = search.config.nbest

    def decode(features: tuple[tf.Tensor, ...], num_frames: tuple[tf.Tensor, ...]) -> Decoded:
        heard = search.hear(features, num_frames)
        nbest = NBest(*(x[:, : max(wanted, 1)] for x in search.nbest(heard)))
        times = hypothesis_times(heard[0], nbest) if wanted else None
        return Decoded(hypothesis_texts(nbest, pieces), nbest.scores, times)

    return graph_of(decode, search.recognisers)


def graph_of(function: Callable[..., Any], recognisers: Sequence[Recogniser]) -> Callable[..., Any]:
    """Makes one graph, for batches of any size, of a function of features and real frames."""
    features = tuple(
        tf.TensorSpec([None, None, each.model.num_mels], tf.float32) for each in recognisers
    )
    num_frames = tuple(tf.TensorSpec([None], tf.int32) for _ in recognisers)

    @tf.function(input_signature=[features, num_frames], autograph=False)
    def graph(*given: Any) -> Any:
        with inferring():
            return function(*given)

    return graph  # type: ignore[no-any-return]


def hypothesis_texts(nbest: NBest, pieces: Sequence[str]) -> tf.Tensor:
    """Texts [B, N] of hypotheses."""
    return tf.reshape(detokenize(_ragged(nbest), pieces), tf.shape(nbest.num_tokens))


def hypothesis_times(heard: Heard, nbest: NBest) -> WordTimes:
    """When the words of B N hypotheses were said, row by row."""
    alignment = tf.map_fn(
        lambda given: heard.align(*given),
        by_place(nbest.tokens, nbest.num_tokens),
        fn_output_signature=Alignment(
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.float32),
        ),
    )  # [N, B, U] and [N, B]
    first, last = (
        tf.reshape(tf.transpose(x, [1, 0, 2]), [tf.size(nbest.num_tokens), tf.shape(x)[2]])
        for x in (alignment.first, alignment.last)
    )
    scores = tf.reshape(tf.transpose(alignment.scores), [-1])
    return word_times(
        Alignment(first, last, scores),
        _ragged(nbest),
        heard.recogniser.pieces,
        heard.recogniser.seconds_per_frame,
    )


def _ragged(nbest: NBest) -> tf.RaggedTensor:
    """Tokens [B N, None] of all hypotheses."""
    num_tokens = tf.reshape(nbest.num_tokens, [-1])
    shape = [tf.size(num_tokens), tf.shape(nbest.tokens)[2]]
    return tf.RaggedTensor.from_tensor(tf.reshape(nbest.tokens, shape), lengths=num_tokens)


@dataclass(frozen=True)
class Transcripts:
    """What a decoder makes of a data set.

    Args:
        hypotheses: The best of each utterance.
        nbest: Where asked for, the best ones of each utterance as JSON objects.
        seconds: What decoding took, without reading the data and building the graph.
    """

    hypotheses: list[Hypothesis]
    nbest: list[list[dict[str, Any]]]
    seconds: float

    @property
    def characters_per_second(self) -> float:
        """Characters of the references by seconds of decoding."""
        characters = sum(len(hypothesis.reference) for hypothesis in self.hypotheses)
        return characters / max(self.seconds, 1e-9)

    def to_json_lines(self) -> list[dict[str, Any]]:
        """Returns the rows of `hypotheses.jsonl`."""
        rows = [vars(hypothesis) for hypothesis in self.hypotheses]
        if self.nbest:
            rows = [{**r, "nbest": n} for r, n in zip(rows, self.nbest, strict=True)]
        return rows


def decode_batches(
    decode: Decoder,
    batches: Iterable[tuple[dict[str, tf.Tensor], ...]],
    report: Callable[[int], None] = lambda done: None,
) -> Transcripts:
    """Decodes every utterance, in the order of the batches.

    Args:
        decode: The decoder.
        batches: Of the same utterances for each of its models, as `evaluation_batches` makes
            them.
        report: Called with the utterances done after each batch.
    """
    hypotheses: list[Hypothesis] = []
    nbest: list[list[dict[str, Any]]] = []
    seconds = 0.0
    for batch in batches:
        given = tuple(tuple(each[name] for each in batch) for name in ("features", "num_frames"))
        if not hypotheses:
            # Builds the graph, which is not timed.
            decode(*given)
        started = time.perf_counter()
        decoded = decode(*given)
        texts = decoded.texts.numpy()
        seconds += time.perf_counter() - started
        one = batch[0]
        columns = [one["id"], one["text"], texts[:, 0], one["speaker"], one["domain"]]
        rows = zip(*(tf.convert_to_tensor(column).numpy() for column in columns), strict=True)
        hypotheses += [Hypothesis(*(value.decode() for value in row)) for row in rows]
        nbest += _listed(decoded)
        report(len(hypotheses))
    return Transcripts(hypotheses, nbest, seconds)


def _listed(decoded: Decoded) -> list[list[dict[str, Any]]]:
    if decoded.times is None or decoded.scores is None:
        return []
    timed = zip(*(column.to_list() for column in decoded.times), strict=True)
    lists = []
    for texts, scores in zip(decoded.texts.numpy(), decoded.scores.numpy().tolist(), strict=True):
        # As many as there are slots, whether or not a hypothesis is in them.
        rows = [(text, score, next(timed)) for text, score in zip(texts, scores, strict=True)]
        lists.append(
            [
                {"text": text.decode(), "score": score, "words": _timed_words(*columns)}
                for text, score, columns in rows
                if score > -float("inf")
            ]
        )
    return lists


def _timed_words(
    words: list[bytes], starts: list[float], ends: list[float]
) -> list[tuple[str, float | None, float | None]]:
    """Words with their times, rounded to milliseconds; None where there is no alignment."""

    def known(seconds: float) -> float | None:
        return round(seconds, 3) if seconds >= 0 else None

    return [
        (word.decode(), known(start), known(end))
        for word, start, end in zip(words, starts, ends, strict=True)
    ]
