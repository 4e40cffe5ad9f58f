"""Weights of a decoder that make the fewest errors, by a grid over lists made once."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.evaluation import DecodingConfig
from tfasr.decoding.hypotheses import NBest
from tfasr.evaluation.decoders import graph_of, hypothesis_texts
from tfasr.evaluation.error_rates import count_word_errors
from tfasr.evaluation.search import ABSENT, Search, acoustic_weights

# What is tried of each option, besides what was configured.
GRID = {
    "lm_weight": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "insertion_bonus": (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0),
    "ctc_weight": (0.0, 0.1, 0.3, 0.5, 0.7, 1.0),
    "reverse_weight": (0.0, 0.1, 0.3, 0.5, 0.7),
}


@dataclass(frozen=True)
class ScoredLists:
    """N-best lists of W utterances, and what was said of each hypothesis.

    Args:
        terms: [W, N] log-probabilities by name, and the tokens.
        present: [W, N] bool.
        errors: [W, N] int64, word errors.
        words: [W] int64, words of the references.
    """

    terms: dict[str, NDArray[np.float32]]
    present: NDArray[np.bool_]
    errors: NDArray[np.int64]
    words: NDArray[np.int64]

    def error_rate(self, config: DecodingConfig) -> float:
        """Word error rate of the hypotheses that a configuration's weights put first."""
        weights = {
            **acoustic_weights(config),
            "lm": config.lm_weight,
            "tokens": config.insertion_bonus,
        }
        scores = np.zeros(self.present.shape)
        for name, values in self.terms.items():
            # A weight of 0 silences -inf, too.
            if weights[name]:
                scores += weights[name] * values
        best = np.where(self.present, scores, ABSENT).argmax(1)
        errors = np.take_along_axis(self.errors, best[:, None], 1).sum()
        return float(errors / max(1, self.words.sum()))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What came out of tuning.

    Args:
        config: The decoder with the best weights.
        weights: Them, by option.
        tried: Settings that were compared.
        utterances: On how many they were.
        wer_before: Word error rate with the weights that were configured, as a share.
        wer: With the best ones.
    """

    config: DecodingConfig
    weights: dict[str, float]
    tried: int
    utterances: int
    wer_before: float
    wer: float

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        return {name: value for name, value in vars(self).items() if name != "config"}


def tune(
    search: Search,
    batches: Iterable[tuple[dict[str, tf.Tensor], ...]],
    report: Callable[[int], None] = lambda done: None,
) -> Tuning:
    """Searches once, and compares weights by how they order what was found.

    Rescoring and attention decoders find the same lists whatever the weights; a prefix beam's
    are those of the weights that were configured. Of equally good weights it takes the first in
    the grid, and those that were configured before all others.

    Args:
        search: The decoder, with the weights to start from.
        batches: Utterances to tune on, as `decode_batches` takes them.
        report: Called with the utterances done after each batch.
    """
    lists = score_lists(search, batches, report)
    settings = settings_to_try(search.config, lists.terms)
    configs = [replace(search.config, **weights) for weights in settings]
    rates = [lists.error_rate(config) for config in configs]
    best = int(np.argmin(rates))
    return Tuning(
        config=configs[best],
        weights=settings[best],
        tried=len(settings),
        utterances=len(lists.words),
        wer_before=rates[0],
        wer=rates[best],
    )


def settings_to_try(config: DecodingConfig, terms: Iterable[str]) -> list[dict[str, Any]]:
    """Settings to compare, the configured one first."""
    needs = {"lm_weight": "lm", "insertion_bonus": "tokens", "reverse_weight": "right"}
    if config.kind == "rescoring":
        needs["ctc_weight"] = "ctc"
    tried = {
        option: tuple(dict.fromkeys((getattr(config, option), *values)))
        for option, values in GRID.items()
        if option in needs and needs[option] in terms
    }
    return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]


def score_lists(
    search: Search,
    batches: Iterable[tuple[dict[str, tf.Tensor], ...]],
    report: Callable[[int], None] = lambda done: None,
) -> ScoredLists:
    """Makes n-best lists with what each model says of them, for any weights.

    Raises:
        ValueError: There are no utterances.
    """

    def scored(
        features: tuple[tf.Tensor, ...], num_frames: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        heard = search.hear(features, num_frames)
        nbest: NBest = search.nbest(heard)
        texts = hypothesis_texts(nbest, search.recognisers[0].pieces)
        return texts, nbest.scores > ABSENT, search.terms(heard, nbest)

    graph = graph_of(scored, search.recognisers)
    references: list[str] = []
    parts = []
    for batch in batches:
        given = tuple(tuple(each[name] for each in batch) for name in ("features", "num_frames"))
        parts.append(tf.nest.map_structure(lambda x: x.numpy(), graph(*given)))
        references += [text.decode() for text in batch[0]["text"].numpy()]
        report(len(references))
    if not parts:
        raise ValueError("weights are tuned on utterances; got none")
    texts, present, terms = tf.nest.map_structure(lambda *x: np.concatenate(x), *parts)
    repeated = [reference for reference in references for _ in range(texts.shape[1])]
    counts = count_word_errors(repeated, [text.decode() for text in texts.ravel()])
    words = counts.length.reshape(texts.shape)[:, 0]
    return ScoredLists(terms, present, counts.errors.reshape(texts.shape), words)
