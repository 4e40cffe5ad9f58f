"""Scores of an n-gram language model, in NumPy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.text.arpa import BEGIN, END, UNKNOWN_WORD, Arpa, NgramOrder, read_arpa

# What KenLM gives an unknown word in a model that knows of none, in log10.
UNKNOWN_LOG10 = -100.0


class NgramModel:
    """A back-off language model whose contexts are numbered states.

    State 0 is the empty context, the next W are the words, then come the longer n-grams that
    can be a context, order by order. So the keys `state * W + word` of all n-grams, sorted by
    context and word within their order, are sorted as a whole, and one binary search finds an
    n-gram of any order.

    Probabilities are natural logarithms in float32.

    Args:
        arpa: The language model.
        vocabulary: The V words that tokens stand for; none at all are the model's own.

    Raises:
        ValueError: The model has no marks of a sentence's ends, or lacks words of the
            vocabulary; `<unk>` it may lack.

    Attributes:
        order: Words of the longest n-grams.
        num_words: The model's words W.
        start: The state before a sentence's first word.
        word_of_token: [V] int64, the model's word.
        end: The model's word for a sentence's end.
        keys: [E] int64, rising.
        log_probabilities: [E] float32.
        next_states: [E] int32, the state after that n-gram.
        backoffs: [S] float32.
        shorter_states: [S] int32, the longest other context that a state ends with.
    """

    def __init__(self, arpa: Arpa, vocabulary: Sequence[str] = ()) -> None:
        if UNKNOWN_WORD not in arpa.words:
            arpa = _with_unknown(arpa)
        self.order = len(arpa.orders)
        self._words = {word: index for index, word in enumerate(arpa.words)}
        self.num_words = len(arpa.words)
        missing = [mark for mark in (BEGIN, END) if mark not in self._words]
        if missing:
            raise ValueError(f"a language model must have <s> and </s>; it lacks {missing[0]}")
        lacking = [word for word in vocabulary if word not in self._words]
        if lacking:
            raise ValueError(
                f"a language model of another vocabulary: it lacks {len(lacking)} of "
                f"{len(vocabulary)} words, the first of them {' '.join(lacking[:5])}; "
                "train it with the tokenizer whose pieces it shall score"
            )
        self.word_of_token = np.array(
            [self._words[word] for word in vocabulary or arpa.words], np.int64
        )
        self.end = self._words[END]
        self._build(arpa)
        self.start = int(self.next_states[self._words[BEGIN]])

    @classmethod
    def load(cls, path: Path, vocabulary: Sequence[str] = ()) -> "NgramModel":
        """Reads an ARPA file of any order.

        Args:
            path: The file.
            vocabulary: The V words that tokens stand for; none at all are the model's own.

        Raises:
            ValueError: The file is no ARPA language model, or one of another vocabulary.
        """
        arpa = read_arpa(path)
        try:
            return cls(arpa, vocabulary)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _build(self, arpa: Arpa) -> None:
        self.keys = np.zeros(0, np.int64)
        self.log_probabilities = np.zeros(0, np.float32)
        self.next_states = np.zeros(0, np.int32)
        self.backoffs = np.zeros(1, np.float32)
        self.shorter_states = np.zeros(1, np.int32)
        first = 0  # state of the order below
        for n, level in enumerate(arpa.orders, start=1):
            contexts = first + level.contexts
            # Found in the orders below, which are complete by now.
            shorter = np.zeros(len(contexts), np.int32)
            if n > 1:
                entries, _ = self._find(self.shorter_states[contexts], level.words)
                shorter = self.next_states[entries]
            first = len(self.backoffs)
            states = shorter
            if n < self.order:
                states = np.arange(first, first + len(contexts), dtype=np.int32)
                self.backoffs = np.append(self.backoffs, _natural(level.backoffs))
                self.shorter_states = np.append(self.shorter_states, shorter)
            self.keys = np.append(self.keys, contexts * self.num_words + level.words)
            self.log_probabilities = np.append(
                self.log_probabilities, _natural(level.log_probabilities)
            )
            self.next_states = np.append(self.next_states, states)

    def _find(
        self, states: NDArray[np.int32], words: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Finds the longest n-gram that ends with a word, and the backoffs on the way there."""
        penalties = np.zeros(states.shape, np.float32)
        while True:
            wanted = states.astype(np.int64) * self.num_words + words
            entries = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            missing = self.keys[entries] != wanted
            # It ends, as each word follows the empty context.
            if not missing.any():
                return entries, penalties
            penalties += np.where(missing, self.backoffs[states], np.float32(0))
            states = np.where(missing, self.shorter_states[states], states)

    def _step(
        self, states: NDArray[np.int32], words: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        entries, penalties = self._find(states, words)
        return self.next_states[entries], penalties + self.log_probabilities[entries]

    def step(
        self, states: NDArray[np.int32], tokens: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Follows states by tokens.

        Args:
            states: int32 of any shape; `start` before the first token.
            tokens: int32 in [0, V), of a shape that broadcasts with the states'.

        Returns:
            The states after the tokens, int32, and the tokens' natural log probabilities,
            float32, both of the common shape.
        """
        states, words = np.broadcast_arrays(states, self.word_of_token[tokens])
        return self._step(states, words)

    def finish(self, states: NDArray[np.int32]) -> NDArray[np.float32]:
        """Gives the natural log probability that a sentence ends in each state."""
        _, log_probabilities = self._step(states, np.full(states.shape, self.end))
        return log_probabilities

    def scores(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """Scores sentences of words; a word that the model lacks is `<unk>`.

        Returns:
            [N] natural log probabilities, those of the sentences' ends among them.
        """
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        words = np.full([len(sentences), lengths.max(initial=0) + 1], self.end)
        unknown = self._words[UNKNOWN_WORD]
        for row, sentence in enumerate(sentences):
            words[row, : len(sentence)] = [self._words.get(word, unknown) for word in sentence]
        states = np.full(len(sentences), self.start, np.int32)
        totals = np.zeros(len(sentences))
        for place, column in enumerate(words.T):
            going = lengths >= place
            states[going], log_probabilities = self._step(states[going], column[going])
            totals[going] += log_probabilities
        return totals

    def score(self, sentence: Sequence[str]) -> float:
        """Scores one sentence as `scores` does."""
        return float(self.scores([sentence])[0])


def perplexity(model: NgramModel, sentences: Sequence[Sequence[str]]) -> float:
    """Gives the perplexity for each word and sentence's end; unknown words count as `<unk>`.

    Raises:
        ValueError: There is no sentence.
    """
    if not sentences:
        raise ValueError("a perplexity needs sentences; got none")
    predictions = sum(len(sentence) + 1 for sentence in sentences)
    return float(np.exp(-model.scores(sentences).sum() / predictions))


def _natural(log10: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(log10 * np.log(10), np.float32)


def _with_unknown(arpa: Arpa) -> Arpa:
    words = arpa.orders[0]
    added = NgramOrder(
        np.append(words.contexts, 0),
        np.append(words.words, len(arpa.words)),
        np.append(words.log_probabilities, UNKNOWN_LOG10),
        np.append(words.backoffs, 0.0),
    )
    return replace(arpa, words=[*arpa.words, UNKNOWN_WORD], orders=[added, *arpa.orders[1:]])
