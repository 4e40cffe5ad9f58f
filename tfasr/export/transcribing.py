"""From what a model hears to what its signatures say of it, in the graph."""

from collections.abc import Callable

import tensorflow as tf

from tfasr.configs.evaluation import DecodingConfig
from tfasr.decoding.greedy import detokenize, greedy_path
from tfasr.decoding.language_model import NoLanguageModel
from tfasr.decoding.transducer_greedy import transducer_greedy
from tfasr.decoding.word_times import Alignment, word_times
from tfasr.evaluation.search import Heard, Recogniser, Search

Transcription = dict[str, tf.Tensor]
# A hypothesis of each utterance: tokens [B, None], their frames, and its score [B].
_Found = tuple[tf.RaggedTensor, Alignment, tf.Tensor]


def transcriber(
    recogniser: Recogniser, config: DecodingConfig
) -> Callable[[tf.Tensor, tf.Tensor], Transcription]:
    """Makes the function of features [B, T, F] and real frames [B] that signatures call.

    It returns, of each utterance, padded where others have more:
        text: [B] string.
        score: [B] float32, natural logarithm: of a greedy path, or what the search ranks by.
        tokens: [B, U] int32, -1 in the padding.
        words: [B, W] string, "" in the padding.
        starts, ends: [B, W] float32, seconds of each word; -1 in the padding, and where the
            utterance has no alignment.

    Args:
        recogniser: The model.
        config: How it decodes, without a language model.

    Raises:
        ValueError: The model lacks the decoder that the configuration asks for.
    """
    search: Search | None = None
    if config.kind != "greedy":
        search = Search(
            recognisers=[recogniser],
            config=config,
            language_model=NoLanguageModel(),
            max_tokens=0,
        )
    # Counted before any graph is made.
    seconds_per_frame, pieces = recogniser.seconds_per_frame, recogniser.pieces

    def transcribe(features: tf.Tensor, num_frames: tf.Tensor) -> Transcription:
        heard = Heard(recogniser, features, num_frames)
        tokens, alignment, scores = _best(heard) if search is None else _searched(search, heard)
        times = word_times(alignment, tokens, pieces, seconds_per_frame)
        return {
            "text": detokenize(tokens, pieces),
            "score": scores,
            "tokens": tokens.to_tensor(-1),
            "words": times.words.to_tensor(""),
            "starts": times.start.to_tensor(-1.0),
            "ends": times.end.to_tensor(-1.0),
        }

    return transcribe


def _best(heard: Heard) -> _Found:
    """Takes the best symbol at each turn, as `first_best` does."""
    model = heard.recogniser.model
    if model.prediction is None:
        path = greedy_path(heard.logits, heard.num_frames)
        first, last = path.first.to_tensor(-1), path.last.to_tensor(-1)
        return path.tokens, Alignment(first, last, path.scores), path.scores
    found = transducer_greedy(model.prediction, model.joint, heard.encoded, heard.num_frames)
    tokens = tf.RaggedTensor.from_tensor(found.tokens, lengths=found.num_tokens)
    return tokens, Alignment(found.frames, found.frames, found.scores), found.scores


def _searched(search: Search, heard: Heard) -> _Found:
    nbest = search.nbest([heard])
    best, num_tokens = nbest.tokens[:, 0], nbest.num_tokens[:, 0]
    tokens = tf.RaggedTensor.from_tensor(best, lengths=num_tokens)
    return tokens, heard.align(best, num_tokens), nbest.scores[:, 0]
