from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tfasr.configs.seeds import counted_generator


class Bigrams:
    """A language model by table; a state is the last token, V the start and the end."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        table = counted_generator(0, "bigrams").normal(size=(vocabulary + 1, vocabulary + 1))
        self.table = log_softmax(table, axis=1).astype(np.float32)

    def start(self) -> Any:
        return tf.constant(self.vocabulary)

    def step(self, states: Any, tokens: Any) -> Any:
        return tokens, tf.gather_nd(self.table, tf.stack([states, tokens], -1))

    def finish(self, states: Any) -> Any:
        return tf.gather(self.table[:, self.vocabulary], states)

    def by_hand(self, tokens: tuple[int, ...]) -> float:
        """Log-probability of a sequence and its end, in NumPy."""
        symbols = (self.vocabulary, *tokens, self.vocabulary)
        return float(sum(self.table[pair] for pair in pairwise(symbols)))


@pytest.fixture(scope="session")
def bigrams() -> Callable[[int], Bigrams]:
    """Makes the bigrams of so many tokens."""
    return Bigrams
