import gzip
import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tfasr.configs.seeds import counted_generator
from tfasr.text.arpa import read_arpa
from tfasr.text.kneser_ney import FALLBACK, train_arpa

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "text" / "train-clean-100.txt.gz"


def table(path: Path) -> dict[tuple[str, ...], tuple[float, float]]:
    """Log10 probability and backoff of each n-gram of a file."""
    arpa = read_arpa(path)
    found = {}
    below = [()]
    for level in arpa.orders:
        below = [
            (*below[c], arpa.words[w]) for c, w in zip(level.contexts, level.words, strict=True)
        ]
        values = zip(level.log_probabilities, level.backoffs, strict=True)
        found.update(zip(below, values, strict=True))
    return found


def trained(tmp_path: Path, sentences, order: int, **settings):
    train_arpa(sentences, order, tmp_path / "lm.arpa", **settings)
    return table(tmp_path / "lm.arpa")


def probability(ngrams, context: tuple[str, ...], word: str) -> float:
    if (*context, word) in ngrams:
        return 10 ** ngrams[(*context, word)][0]
    backoff = 10 ** ngrams[context][1] if context in ngrams else 1.0
    return backoff * probability(ngrams, context[1:], word)


def babble(sentences: int, words: str, seed: int = 0) -> list[list[str]]:
    """Sentences of 0 to 7 words in which early words are frequent."""
    generator = counted_generator(seed, "babble", sentences)
    shares = 1 / np.arange(1, len(words) + 1)
    lengths = generator.integers(0, 8, sentences)
    return [list(generator.choice(list(words), n, p=shares / shares.sum())) for n in lengths]


def worked(value: Fraction | float) -> float:
    return pytest.approx(math.log10(value), abs=1e-6)


# <s> a a b a </s> and <s> b a a b </s>: KenLM publishes what its `lmplz --discount_fallback
# -o 3` makes of them (lm/common/test_data/toy0.arpa, cited below to six places). No order has
# n-grams counted 1, 2 and 3 times, so the discounts are 1/2, 1 and 3/2.
TOY = ["a a b a".split(), "b a a b".split()]


def test_unigrams_by_hand(tmp_path):
    ngrams = trained(tmp_path, TOY, 3)
    # Different words before a: <s> a b; before b: <s> a; before </s>: a b; 7 in all. The
    # discounts 3/2 + 1 + 1 leave gamma = (7/2) / 7 = 1/2 for the 4 words besides <s>.
    assert ngrams["<unk>",][0] == worked(Fraction(1, 2) / 4)
    assert ngrams["a",][0] == worked(Fraction(3, 2) / 7 + Fraction(1, 8))
    assert ngrams["b",][0] == worked(Fraction(1, 7) + Fraction(1, 8))
    assert ngrams["</s>",][0] == worked(Fraction(1, 7) + Fraction(1, 8))
    published = {"<unk>": -0.903090, "a": -0.469434, "b": -0.572097, "</s>": -0.572097}
    for word, value in published.items():
        assert ngrams[word,][0] == pytest.approx(value, abs=1e-6)


def test_bigrams_by_hand(tmp_path):
    ngrams = trained(tmp_path, TOY, 3)
    a, b, end = Fraction(19, 56), Fraction(15, 56), Fraction(15, 56)
    half = Fraction(1, 2)
    # Different words before "a a": <s> b, "a b": a, "a </s>": b. Discounts 1 + 1/2 + 1/2 of 4.
    assert ngrams["a", "a"][0] == worked((2 - 1) / Fraction(4) + half * a)
    assert ngrams["a", "b"][0] == worked((1 - half) / Fraction(4) + half * b)
    assert ngrams["a", "</s>"][0] == worked((1 - half) / Fraction(4) + half * end)
    # Before "b a": <s> a, "b </s>": a. Discounts 1 + 1/2 of 3.
    assert ngrams["b", "a"][0] == worked((2 - 1) / Fraction(3) + half * a)
    assert ngrams["b", "</s>"][0] == worked((1 - half) / Fraction(3) + half * end)
    # Nothing stands before <s>: both are counted as often as they occur, once.
    assert ngrams["<s>", "a"][0] == worked((1 - half) / Fraction(2) + half * a)
    assert ngrams["<s>", "b"][0] == worked((1 - half) / Fraction(2) + half * b)
    for word in ("a", "b", "<s>"):
        assert ngrams[word,][1] == worked(half)
    published = {("a", "a"): -0.377120, ("b", "</s>"): -0.522018, ("<s>", "b"): -0.415750}
    for ngram, value in published.items():
        assert ngrams[ngram][0] == pytest.approx(value, abs=1e-6)


def test_trigrams_by_hand(tmp_path):
    ngrams = trained(tmp_path, TOY, 3)
    half = Fraction(1, 2)
    # "a a b" occurs twice and nothing else follows "a a": discount 1 of 2.
    b_after_a = Fraction(1, 8) + half * Fraction(15, 56)
    assert ngrams["a", "a", "b"][0] == worked((2 - 1) / Fraction(2) + half * b_after_a)
    assert ngrams["a", "a"][1] == worked(half)
    # "b a a" and "b a </s>" occur once each: discounts 1/2 + 1/2 of 2.
    a_after_a = Fraction(1, 4) + half * Fraction(19, 56)
    assert ngrams["b", "a", "a"][0] == worked((1 - half) / Fraction(2) + half * a_after_a)
    published = {"a a b": -0.201029, "b a a": -0.337411, "<s> a a": -0.148851, "a b a": -0.299739}
    for text, value in published.items():
        assert ngrams[tuple(text.split())][0] == pytest.approx(value, abs=1e-6)


# Once: x y z </s>; twice: d e; three times: f; four times: g; 15 words in all.
COUNTED = ["x y z d d e e f f f g g g g".split()]


def test_discounts_by_hand(tmp_path):
    (summary,) = train_arpa(COUNTED, 1, tmp_path / "lm.arpa")
    # t1 = 4, t2 = 2, t3 = 1, t4 = 1, Y = 4 / (4 + 2 * 2) = 1/2.
    # D1 = 1 - 2 Y 2/4 = 1/2, D2 = 2 - 3 Y 1/2 = 5/4, D3 = 3 - 4 Y 1/1 = 1.
    assert summary.discounts == (0.5, 1.25, 1.0)
    assert not summary.fallback


def test_order_1_by_hand(tmp_path):
    ngrams = trained(tmp_path, COUNTED, 1)
    # Discounts 4 * 1/2 + 2 * 5/4 + 1 + 1 = 13/2 of 15, for 9 words besides <s>.
    lower = Fraction(13, 30) / 9
    assert ngrams["x",][0] == worked(Fraction(1, 2) / 15 + lower)
    assert ngrams["d",][0] == worked(Fraction(3, 4) / 15 + lower)
    assert ngrams["f",][0] == worked(Fraction(2) / 15 + lower)
    assert ngrams["g",][0] == worked(Fraction(3) / 15 + lower)
    assert ngrams["<unk>",][0] == worked(lower)


def test_pruned_mass_goes_to_the_order_below(tmp_path):
    ngrams = trained(tmp_path, TOY, 3, prune=(0, 0, 1))
    half = Fraction(1, 2)
    b_after_a = Fraction(1, 8) + half * Fraction(15, 56)
    assert [ngram for ngram in ngrams if len(ngram) == 3] == [("a", "a", "b")]
    assert ngrams["a", "a", "b"][0] == worked((2 - 1) / Fraction(2) + half * b_after_a)
    # Both that followed "b a" are gone, and all of their mass is the backoff.
    assert ngrams["b", "a"][1] == 0.0


def test_an_order_without_small_counts_says_that_it_falls_back(tmp_path):
    summaries = train_arpa(TOY, 3, tmp_path / "lm.arpa")
    assert [(s.order, s.seen, s.kept) for s in summaries] == [(1, 5, 5), (2, 7, 7), (3, 7, 7)]
    assert [s.discounts for s in summaries] == [FALLBACK] * 3
    assert all(s.fallback for s in summaries)


def slow_kneser_ney(sentences, order: int, thresholds):
    """The same from its definition, one n-gram at a time, as probabilities and gammas."""
    raw, before = Counter(), defaultdict(set)
    for sentence in filter(None, sentences):
        marked = ("<s>", *sentence, "</s>")
        for first, last in itertools.combinations(range(len(marked) + 1), 2):
            raw[marked[first:last]] += 1
            if first and last - first < order:
                before[marked[first:last]].add(marked[first - 1])
    raw = {ngram: n for ngram, n in raw.items() if len(ngram) <= order and ngram != ("<s>",)}

    def adjusted(ngram):
        highest = len(ngram) == order or ngram[0] == "<s>"
        return raw[ngram] if highest else len(before[ngram])

    words = {ngram[0] for ngram in raw if len(ngram) == 1} | {"<unk>"}
    p = dict.fromkeys(((word,) for word in words), 0.0)
    gammas = {}
    for n in range(1, order + 1):
        level = {ngram: adjusted(ngram) for ngram in raw if len(ngram) == n}
        t = Counter(level.values())
        d = FALLBACK
        if t[1] and t[2] and t[3]:
            y = t[1] / (t[1] + 2 * t[2])
            d = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
        assert min(d) > 0
        followers = defaultdict(list)
        for ngram in level:
            followers[ngram[:-1]].append(ngram)
        for context, ngrams in followers.items():
            cut = {
                x: d[min(level[x], 3) - 1] if raw[x] > thresholds[n - 1] else level[x]
                for x in ngrams
            }
            total = sum(level[x] for x in ngrams)
            gammas[context] = sum(cut.values()) / total
            known = [(word,) for word in words] if n == 1 else ngrams
            for x in known:
                lower = p[x[1:]] if n > 1 else 1 / len(words)
                seen = (level[x] - cut[x]) / total if x in level else 0.0
                p[x] = seen + gammas[context] * lower
    return {x: v for x, v in p.items() if raw.get(x, 1) > thresholds[len(x) - 1]}, gammas


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("prune", [(), (0, 1)])
def test_it_is_what_the_definition_gives(tmp_path, order, prune):
    sentences = babble(150, "abcdefgh")
    prune = prune[:order]
    thresholds = (0, *(prune[-1:] or (0,)) * 5)
    p, gammas = slow_kneser_ney(sentences, order, thresholds)
    ngrams = trained(tmp_path, sentences, order, prune=prune)
    assert ngrams.keys() == p.keys() | {("<s>",)}
    for ngram, value in p.items():
        assert ngrams[ngram] == (worked(value), worked(gammas.get(ngram, 1.0)))


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("prune", [(), (0, 1)])
def test_probabilities_sum_to_one_in_every_context(tmp_path, order, prune):
    ngrams = trained(tmp_path, babble(60, "abcd"), order, prune=prune[:order])
    words = [ngram[0] for ngram in ngrams if len(ngram) == 1 and ngram != ("<s>",)]
    contexts = {ngram for ngram in ngrams if len(ngram) < order} | {()}
    contexts |= set(itertools.product(["<s>", "a", "d", "<unk>"], repeat=min(order, 3)))
    for context in contexts:
        total = sum(probability(ngrams, context, word) for word in words)
        assert total == pytest.approx(1.0, abs=1e-5)


def test_the_order_of_the_sentences_does_not_matter(tmp_path):
    sentences = babble(50, "abcd")
    train_arpa(sentences, 4, tmp_path / "one")
    train_arpa(sentences[::-1], 4, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_empty_sentences_are_left_out(tmp_path):
    train_arpa(TOY, 2, tmp_path / "one")
    train_arpa([[], *TOY, []], 2, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_word_of_the_vocabulary_is_as_likely_as_the_unknown(tmp_path):
    ngrams = trained(tmp_path, TOY, 3, vocabulary=["b", "c", "<unk>"])
    # As in the toy, but 5 words share gamma = 1/2.
    assert ngrams["c",][0] == worked(Fraction(1, 10))
    assert ngrams["<unk>",][0] == worked(Fraction(1, 10))


def test_the_unknown_word_can_be_counted(tmp_path):
    ngrams = trained(tmp_path, [["a", "<unk>"]], 2)
    # One word stands before each of a, <unk> and </s>; discounts 3 * 1/2 of 3, for 3 words.
    assert ngrams["<unk>",][0] == worked(Fraction(1, 2) / 3 + Fraction(1, 2) / 3)


def test_no_text_is_named(tmp_path):
    with pytest.raises(ValueError, match="needs training text; got 2 lines, all empty"):
        train_arpa([[], []], 2, tmp_path / "lm.arpa")


@pytest.mark.parametrize("word", ["<s>", "</s>", "", "a b", "a\n"])
def test_a_word_that_cannot_be_is_named_with_its_sentence(tmp_path, word):
    with pytest.raises(ValueError, match=r"sentence 2: a word must not be <s> or </s>, .*; got '"):
        train_arpa([["a"], ["b", word]], 2, tmp_path / "lm.arpa")


def test_an_order_beyond_the_longest_sentence_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"at most 3, the longest sentence .*; got order=4"):
        train_arpa([["a"], []], 4, tmp_path / "lm.arpa")


def test_pruning_that_leaves_nothing_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"prune=\[0, 0, 5\] drops all 7 of order 3"):
        train_arpa(TOY, 3, tmp_path / "lm.arpa", prune=(0, 0, 5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not SHARED.is_file(), reason="../shared/data is not there")
def test_real_text_gives_its_own_discounts(tmp_path):
    with gzip.open(SHARED, "rt", encoding="utf-8") as handle:
        sentences = [line.split() for line in itertools.islice(handle, 1000)]
    summaries = train_arpa(sentences, 3, tmp_path / "lm.arpa")
    assert not any(summary.fallback for summary in summaries)
    assert all(0 < s.discounts[0] < s.discounts[1] < s.discounts[2] < 3 for s in summaries)
