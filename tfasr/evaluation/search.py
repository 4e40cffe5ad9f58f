"""N-best lists of one model or an ensemble, by any decoder, in the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfasr.configs.evaluation import DecoderKind, DecodingConfig
from tfasr.decoding.attention_beam import attention_beam_search
from tfasr.decoding.ctc_lattice import ctc_score
from tfasr.decoding.ensembles import Member, combine
from tfasr.decoding.hypotheses import NBest
from tfasr.decoding.language_model import (
    NO_FUSION,
    Fusion,
    LanguageModel,
    NoLanguageModel,
    lm_score,
)
from tfasr.decoding.ngram import NgramModel
from tfasr.decoding.ngram_tables import NgramTables
from tfasr.decoding.prefix_beam import prefix_beam_search
from tfasr.decoding.rescoring import add_language_model, rescore
from tfasr.decoding.transducer_beam import transducer_beam_search
from tfasr.decoding.word_times import Alignment, align
from tfasr.losses.transducer import token_frames, transducer_loss
from tfasr.models.acoustic_model import AcousticModel
from tfasr.text.arpa import arpa_words

Scorer = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
ABSENT = -float("inf")
# Enough to count how many frames of features make one of the encoding.
_MANY_FRAMES = 1 << 16


def load_language_model(path: Path | None, pieces: Sequence[str]) -> LanguageModel:
    """Reads an ARPA language model over tokens; of no path, it has no opinion.

    Raises:
        ValueError: The file is no such model, or one of another vocabulary.
    """
    if path is None:
        return NoLanguageModel()
    return NgramTables(NgramModel.load(path, arpa_words(pieces)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Recogniser:
    """A model with what its tokens and frames stand for.

    Args:
        name: For messages.
        model: The model.
        pieces: The V surfaces of its tokens.
        frame_shift: From one frame of its features to the next, in seconds.
    """

    name: str
    model: AcousticModel
    pieces: Sequence[str]
    frame_shift: float

    @property
    def seconds_per_frame(self) -> float:
        """From one frame of the encoding to the next, in seconds."""
        encoded = int(self.model.encoded_frames(_MANY_FRAMES))
        return self.frame_shift * round(_MANY_FRAMES / encoded)

    @property
    def kinds(self) -> list[DecoderKind]:
        """Decoders that the model has the parts for."""
        kinds: list[DecoderKind] = ["greedy"]
        if self.model.head is not None:
            kinds.append("prefix_beam")
        if self.model.decoder is not None:
            kinds += ["attention", "rescoring"]
        if self.model.prediction is not None:
            kinds.append("transducer")
        return kinds

    @property
    def has_right_decoder(self) -> bool:
        """Whether a decoder reads from right to left."""
        return self.model.decoder is not None and self.model.decoder.right is not None


class Heard:
    """What a model makes of a batch of utterances.

    Its methods give log-probabilities [B, N] of tokens [B, N, U] with lengths [B, N].

    Args:
        recogniser: The model.
        features: [B, T, F] float32.
        num_frames: [B] int32.

    Attributes:
        encoded: [B, T', D].
        mask: [B, T'] bool.
        logits: [B, T', V + 1] float32, of CTC; None without its head.
        num_frames: [B] int32, real frames of the encoding.
    """

    def __init__(self, recogniser: Recogniser, features: tf.Tensor, num_frames: tf.Tensor) -> None:
        model = recogniser.model
        self.recogniser = recogniser
        self.decoder: Any = model.decoder
        self.encoded, self.mask = model.encode(features, num_frames)
        self.logits = None if model.head is None else model.head(self.encoded)
        self.num_frames = model.encoded_frames(num_frames)

    def ctc(self, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
        """By the CTC head."""
        return ctc_score(self.logits, self.num_frames, tokens, num_tokens)

    def left(self, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
        """By the decoder that reads from left to right, ends included."""
        return self.decoder.left.score(self.encoded, self.mask, tokens, num_tokens)

    def right(self, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
        """By the decoder that reads from right to left, ends included."""
        return self.decoder.score(self.encoded, self.mask, tokens, num_tokens)[1]

    def transducer(self, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
        """By the transducer, over all its alignments."""
        model = self.recogniser.model

        def score(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            predicted = model.prediction(*given)
            return -transducer_loss(model.joint, self.encoded, self.num_frames, predicted, *given)

        scores = tf.map_fn(score, by_place(tokens, num_tokens), fn_output_signature=tf.float32)
        return tf.transpose(scores)

    def align(self, tokens: tf.Tensor, num_tokens: tf.Tensor) -> Alignment:
        """Finds the frames of one hypothesis an utterance, tokens [B, U] and lengths [B].

        By the CTC head, or else by the transducer, each of whose tokens is in one frame.
        """
        model = self.recogniser.model
        if model.head is not None:
            return align(self.logits, self.num_frames, tokens, num_tokens)
        predicted = model.prediction(tokens, num_tokens)
        given = (self.encoded, self.num_frames, predicted, tokens, num_tokens)
        frames = token_frames(model.joint, *given)
        return Alignment(frames, frames, -transducer_loss(model.joint, *given))


def by_place(tokens: tf.Tensor, num_tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts places in n-best lists first, [N, B, U] and [N, B].

    What is mapped over them has one hypothesis of every utterance at a time, as logits, or all
    pairs of frames and tokens, are too large to be repeated for each.
    """
    return tf.transpose(tokens, [1, 0, 2]), tf.transpose(num_tokens)


def acoustic_weights(config: DecodingConfig) -> dict[str, float]:
    """Weights of `Heard`'s scores, by name; the first is what the search goes by."""
    match config.kind:
        case "prefix_beam":
            return {"ctc": 1.0}
        case "attention":
            return {"left": 1.0}
        case "transducer":
            return {"transducer": 1.0}
        case "rescoring":
            reverse = config.reverse_weight
            return {"ctc": config.ctc_weight, "left": 1 - reverse, "right": reverse}
    raise ValueError(f"a search needs another decoder than {config.kind}; got kind={config.kind}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A decoder of n-best lists.

    Args:
        recognisers: One, or several with the same pieces, whose scores are averaged.
        config: Any kind but "greedy".
        language_model: What the configuration's `lm` holds.
        max_tokens: Longest hypothesis of an attention decoder, in tokens.

    Raises:
        ValueError: A model lacks a decoder that the configuration asks for.
    """

    recognisers: Sequence[Recogniser]
    config: DecodingConfig
    language_model: LanguageModel
    max_tokens: int

    def __post_init__(self) -> None:
        weights = acoustic_weights(self.config)
        for recogniser in self.recognisers:
            model = recogniser.model
            for name, part, has in (
                ("left", "an attention decoder", model.decoder is not None),
                ("ctc", "a CTC head", model.head is not None),
                ("transducer", "a transducer", model.prediction is not None),
            ):
                if name in weights and not has:
                    others = ", ".join(recogniser.kinds)
                    raise ValueError(
                        f"{recogniser.name}: decoder.kind={self.config.kind} needs a model with "
                        f"{part}, and this one has none; choose {others}"
                    )
            if weights.get("right") and not recogniser.has_right_decoder:
                raise ValueError(
                    f"{recogniser.name}: reverse_weight needs a decoder from right to left, and "
                    f"this model has none; got reverse_weight={self.config.reverse_weight}, "
                    "give --decoder.reverse_weight 0"
                )

    @property
    def fusion(self) -> Fusion:
        """The language model, its weight and the bonus."""
        return Fusion(
            language_model=self.language_model,
            weight=self.config.lm_weight,
            insertion_bonus=self.config.insertion_bonus,
        )

    def hear(self, features: Sequence[tf.Tensor], num_frames: Sequence[tf.Tensor]) -> list[Heard]:
        """Runs each model on its own features of the same utterances."""
        given = zip(self.recognisers, features, num_frames, strict=True)
        return [Heard(*each) for each in given]

    def nbest(self, heard: Sequence[Heard]) -> NBest:
        """Searches, and orders what was found. Call it in a graph."""
        if len(heard) == 1:
            return self._alone(heard[0])
        members = [member for each in heard for member in self._members(each)]
        return combine(members, self.fusion)

    def terms(self, heard: Sequence[Heard], nbest: NBest) -> dict[str, tf.Tensor]:
        """Gives what a hypothesis's score is a weighted sum of, [B, N] each.

        "ctc", "left", "right" and "transducer" are averages over the models, as far as the kind
        has use for them; "lm" is the language model's score, where there is one, "tokens" the
        length.
        """
        names = list(acoustic_weights(self.config))
        if not all(recogniser.has_right_decoder for recogniser in self.recognisers):
            names = [name for name in names if name != "right"]
        given = (nbest.tokens, nbest.num_tokens)
        terms = {
            name: tf.add_n([getattr(each, name)(*given) for each in heard]) / len(heard)
            for name in names
        }
        if self.config.lm is not None:
            terms["lm"] = lm_score(self.language_model, *given)
        return {**terms, "tokens": tf.cast(nbest.num_tokens, tf.float32)}

    def _found(self, heard: Heard) -> NBest:
        config = self.config
        if config.kind == "attention":
            return attention_beam_search(
                heard.decoder.left,
                heard.encoded,
                heard.mask,
                beam=config.beam,
                max_tokens=self.max_tokens,
                length_penalty=0.0,
            )
        if config.kind == "transducer":
            model = heard.recogniser.model
            return transducer_beam_search(
                model.prediction,
                model.joint,
                heard.encoded,
                heard.num_frames,
                beam=config.beam,
                max_symbols=config.max_symbols,
                token_beam=config.token_beam,
                fusion=self.fusion,
            )[0]
        return prefix_beam_search(
            heard.logits,
            heard.num_frames,
            beam=config.beam,
            token_beam=config.token_beam,
            fusion=self.fusion if config.kind == "prefix_beam" else NO_FUSION,
        )

    def _alone(self, heard: Heard) -> NBest:
        found, config = self._found(heard), self.config
        if config.kind in ("prefix_beam", "transducer"):
            return found
        if config.kind == "rescoring":
            given = (found.tokens, found.num_tokens)
            left = heard.left(*given)
            found = rescore(
                found,
                found.scores,
                left,
                heard.right(*given) if config.reverse_weight else left,
                ctc_weight=config.ctc_weight,
                reverse_weight=config.reverse_weight,
            )
        return add_language_model(found, self.fusion)

    def _members(self, heard: Heard) -> list[Member]:
        """A model's scores, each as a member: what was found stands in the first one's list."""
        found = self._found(heard)
        nothing = NBest(*(x[:, :0] for x in found))
        (first, weight), *others = acoustic_weights(self.config).items()
        # What the search gives may have the language model in it.
        scores = getattr(heard, first)(found.tokens, found.num_tokens)
        listed = found._replace(scores=tf.where(found.scores > ABSENT, scores, ABSENT))
        member = partial(Member, name=heard.recogniser.name, pieces=heard.recogniser.pieces)
        share = 1 / len(self.recognisers)
        return [
            member(nbest=listed, score=getattr(heard, first), weight=share * weight),
            *(
                member(nbest=nothing, score=getattr(heard, name), weight=share * weight)
                for name, weight in others
                if weight
            ),
        ]
