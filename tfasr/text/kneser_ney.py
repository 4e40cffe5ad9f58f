"""Interpolated modified Kneser-Ney smoothing: from sentences to an ARPA file."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.configs.language_model import thresholds_of_orders
from tfasr.text.arpa import BEGIN, END, NEVER, UNKNOWN_WORD, NgramOrder, is_word, write_arpa

# Discounts of n-grams seen once, twice and oftener where a text is too small or too regular to
# estimate them from; they are those of KenLM's `lmplz --discount_fallback`.
FALLBACK = (0.5, 1.0, 1.5)
_SPECIALS = (UNKNOWN_WORD, BEGIN, END)
_BEGIN = _SPECIALS.index(BEGIN)
_END = _SPECIALS.index(END)
_MARKS = frozenset((BEGIN, END))


@dataclass(frozen=True)
class OrderSummary:
    """What was made of one order.

    Args:
        order: Words of an n-gram.
        seen: Different n-grams of the text; of order 1, the words.
        kept: Those that pruning left.
        discounts: Of n-grams counted once, twice, and three times or more.
        fallback: Whether the discounts are `FALLBACK`, as the text gives none.
    """

    order: int
    seen: int
    kept: int
    discounts: tuple[float, float, float]
    fallback: bool


def train_arpa(
    lines: Iterable[Sequence[str]],
    order: int,
    path: Path,
    *,
    prune: tuple[int, ...] = (),
    vocabulary: Sequence[str] = (),
) -> list[OrderSummary]:
    """Trains an n-gram language model and writes it whole or not at all.

    The same sentences give the same file, whatever order they come in.

    Args:
        lines: Sentences as words, without marks at their ends; empty ones are left out. The
            word `<unk>` stands for any word that is not in the model.
        order: Words of the longest n-grams, 1 to 6.
        path: The ARPA file.
        prune: Drop n-grams seen so often or less, a threshold for each order from the first,
            which must be 0; the last one holds for the orders above it.
        vocabulary: Words that the model has even where the text does not.

    Returns:
        A summary of each order.

    Raises:
        ValueError: There is no sentence, none is long enough for `order`, a word can't stand in
            an ARPA file, or pruning leaves nothing of an order.

    Source: Chen & Goodman (1998), "An Empirical Study of Smoothing Techniques for Language
        Modeling", sections 2.7 and 3; Heafield et al. (2013), "Scalable Modified Kneser-Ney
        Language Model Estimation", section 3.
    """
    thresholds = thresholds_of_orders(order, prune)
    words, tokens = _indexed(lines, vocabulary)
    counts = _count(tokens, len(words), order)
    kept = [level.occurrences > limit for level, limit in zip(counts, thresholds, strict=True)]
    kept[0] = np.ones(len(words), np.bool_)
    adjusted = _adjusted_counts(counts)
    discounts = [_discounts(numbers) for numbers in adjusted]
    summaries = [
        OrderSummary(n, len(keep), int(keep.sum()), found or FALLBACK, found is None)
        for n, (keep, found) in enumerate(zip(kept, discounts, strict=True), start=1)
    ]
    for summary in summaries:
        if not summary.kept:
            raise ValueError(
                f"prune must leave n-grams of each order, or the order be lower; "
                f"prune={list(prune)} drops all {summary.seen} of order {summary.order}"
            )
    used = [summary.discounts for summary in summaries]
    orders = _kept_orders(counts, kept, *_interpolated(counts, adjusted, kept, used))
    write_arpa(path, words, [summary.kept for summary in summaries], orders)
    return summaries


def _indexed(
    lines: Iterable[Sequence[str]], vocabulary: Sequence[str]
) -> tuple[list[str], NDArray[np.int32]]:
    """Gives the sorted words and, as their indices, all sentences with marks at their ends."""
    known = {word: index for index, word in enumerate(_SPECIALS)}
    _add_words(vocabulary, known, "vocabulary")
    text = array("i")
    number = 0
    for number, line in enumerate(lines, start=1):
        if line:
            _add_words(line, known, f"sentence {number}")
            text.append(_BEGIN)
            text.extend([known[word] for word in line])
            text.append(_END)
    if not text:
        raise ValueError(f"a language model needs training text; got {number} lines, all empty")
    # Sorted, so that the order of the sentences does not show in the file.
    names = list(known)
    order = sorted(range(len(_SPECIALS), len(names)), key=names.__getitem__)
    order = [*range(len(_SPECIALS)), *order]
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names))
    return [names[index] for index in order], place[np.frombuffer(text, np.int32)]


def _add_words(words: Sequence[str], known: dict[str, int], where: str) -> None:
    for word in words:
        if word in _MARKS or (word not in known and not is_word(word)):
            raise ValueError(
                f"{where}: a word must not be {BEGIN} or {END}, be empty or have a space in it; "
                f"got {word!r}"
            )
        known.setdefault(word, len(known))


@dataclass(frozen=True)
class _Counts:
    """The M different n-grams of one order, sorted by context and word.

    Args:
        contexts: [M] row of the first n - 1 words in the order below.
        words: [M] the last word.
        suffixes: [M] row of the last n - 1 words in the order below.
        occurrences: [M] how often it stands in the text.
        begins: [M] whether it begins a sentence.
    """

    contexts: NDArray[np.int64]
    words: NDArray[np.int64]
    suffixes: NDArray[np.int64]
    occurrences: NDArray[np.int64]
    begins: NDArray[np.bool_]


def _count(tokens: NDArray[np.int32], num_words: int, order: int) -> list[_Counts]:
    """Counts the n-grams of each order, given sentences with marks at their ends."""
    starts = np.flatnonzero(tokens == _BEGIN)
    lengths = np.diff(starts, append=len(tokens))
    if lengths.max() < order:
        raise ValueError(
            f"order must be at most {lengths.max()}, the longest sentence with its marks; "
            f"got order={order}"
        )
    place = np.arange(len(tokens)) - np.repeat(starts, lengths)
    words = np.arange(num_words)
    nothing = np.zeros(num_words, np.int64)
    occurrences = np.bincount(tokens[place > 0], minlength=num_words)
    counts = [_Counts(nothing, words, nothing, occurrences, words == _BEGIN)]
    rows = tokens.astype(np.int64)  # of the n-gram that ends there, once it is long enough
    for n in range(2, order + 1):
        ends = np.flatnonzero(place >= n - 1)
        keys, first, inverse, occurrences = np.unique(
            rows[ends - 1] * num_words + tokens[ends],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        contexts, words = np.divmod(keys, num_words)
        begins = counts[-1].begins[contexts]
        counts.append(_Counts(contexts, words, rows[ends[first]], occurrences, begins))
        rows[ends] = inverse
    return counts


def _adjusted_counts(counts: Sequence[_Counts]) -> list[NDArray[np.int64]]:
    """Counts the different words before an n-gram, where there is a longer order to do so."""
    adjusted = []
    for level, above in pairwise(counts):
        before = np.bincount(above.suffixes, minlength=len(level.words))
        # Nothing stands before a sentence's beginning.
        adjusted.append(np.where(level.begins, level.occurrences, before))
    return [*adjusted, counts[-1].occurrences]


def _discounts(adjusted: NDArray[np.int64]) -> tuple[float, float, float] | None:
    """Estimates the discounts of one order; Chen & Goodman (1998), equation 26."""
    t1, t2, t3, t4 = (int((adjusted == number).sum()) for number in (1, 2, 3, 4))
    if not (t1 and t2 and t3):
        return None
    y = t1 / (t1 + 2 * t2)
    found = (1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3)
    # Without a discount nothing would be left for words never seen in a context.
    return found if min(found) > 0 else None


def _interpolated(
    counts: Sequence[_Counts],
    adjusted: Sequence[NDArray[np.int64]],
    kept: Sequence[NDArray[np.bool_]],
    discounts: Sequence[tuple[float, float, float]],
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Gives each order's probabilities, and its share gamma for the order below by context."""
    # What order 1 is interpolated with: <s> is never predicted, so the others share it.
    lower = np.array([1 / (len(counts[0].words) - 1)])
    probabilities: list[NDArray[np.float64]] = []
    gammas: list[NDArray[np.float64]] = []
    for level, a, keep, found in zip(counts, adjusted, kept, discounts, strict=True):
        spared = np.where(keep, np.array([0.0, *found])[np.minimum(a, 3)], a)
        total = np.bincount(level.contexts, a, len(lower))
        gamma = np.ones(len(lower))
        # A context that nothing follows leaves all to the order below.
        np.divide(
            np.bincount(level.contexts, spared, len(lower)), total, out=gamma, where=total > 0
        )
        gammas.append(gamma)
        lower = gamma[level.contexts] * lower[level.suffixes]
        lower += (a - spared) / total[level.contexts]
        probabilities.append(lower)
    probabilities[0][_BEGIN] = 10.0**NEVER
    return probabilities, gammas


def _kept_orders(
    counts: Sequence[_Counts],
    kept: Sequence[NDArray[np.bool_]],
    probabilities: Sequence[NDArray[np.float64]],
    gammas: Sequence[NDArray[np.float64]],
) -> Iterator[NgramOrder]:
    """Yields the orders without what pruning drops; a context's backoff is its gamma."""
    row = np.zeros(1, np.int64)  # of an n-gram of the order below, among those kept
    backoffs = [*gammas[1:], np.ones(len(kept[-1]))]
    for level, keep, p, gamma in zip(counts, kept, probabilities, backoffs, strict=True):
        contexts = row[level.contexts[keep]]
        yield NgramOrder(contexts, level.words[keep], np.log10(p[keep]), np.log10(gamma[keep]))
        row = np.cumsum(keep) - 1
