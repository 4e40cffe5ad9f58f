"""What a search asks of a language model, and how their scores are added."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import tensorflow as tf


class LanguageModel(Protocol):
    """Scores tokens by those before them, in the graph; a history is one int32 state.

    Every method takes and gives tensors of one shape, any shape.
    """

    def start(self) -> tf.Tensor:
        """Gives the state at the start of a sentence: a scalar int32."""
        ...

    def step(self, states: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads a token in each state.

        Args:
            states: [...] int32.
            tokens: [...] int32 in [0, V).

        Returns:
            The states after the tokens, [...] int32, and the tokens' natural
            log-probabilities, [...] float32.
        """
        ...

    def finish(self, states: tf.Tensor) -> tf.Tensor:
        """Gives the natural log-probability [...] that the sentence ends in a state."""
        ...


class NoLanguageModel:
    """The `LanguageModel` that has no opinion: log-probability 0 for everything."""

    def start(self) -> tf.Tensor:
        return tf.constant(0)

    def step(self, states: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return states, tf.zeros(tf.shape(tokens))

    def finish(self, states: tf.Tensor) -> tf.Tensor:
        return tf.zeros(tf.shape(states))


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Shallow fusion: `score + weight * log p_lm + insertion_bonus * tokens`.

    Args:
        language_model: Gives log p_lm of the tokens and, once complete, of the end.
        weight: Of log p_lm; not negative.
        insertion_bonus: For each token, against the language model's liking for few of them.
    """

    language_model: LanguageModel = field(default_factory=NoLanguageModel)
    weight: float = 0.0
    insertion_bonus: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight must be finite and not negative; got weight={self.weight}")
        if not math.isfinite(self.insertion_bonus):
            raise ValueError(
                f"insertion_bonus must be finite; got insertion_bonus={self.insertion_bonus}"
            )

    def fuse(
        self, scores: tf.Tensor, lm_log_probabilities: tf.Tensor, num_tokens: tf.Tensor
    ) -> tf.Tensor:
        """Applies the equation to tensors of one shape."""
        # A weight of 0 silences a log-probability of -inf, too.
        lm = tf.math.multiply_no_nan(lm_log_probabilities, self.weight)
        return scores + lm + self.insertion_bonus * tf.cast(num_tokens, tf.float32)


NO_FUSION = Fusion()


def lm_score(language_model: LanguageModel, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
    """Computes the log-probability of whole token sequences and their ends.

    Args:
        language_model: The model.
        tokens: [..., U] int32; whatever stands in the padding.
        num_tokens: [...] int32.

    Returns:
        [...] float32.
    """

    def read(
        place: tf.Tensor, states: tf.Tensor, total: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        inside = place < num_tokens
        after, scores = language_model.step(states, tf.where(inside, tokens[..., place], 0))
        states = tf.where(inside, after, states)
        return place + 1, states, total + tf.where(inside, scores, 0.0)

    first = tf.zeros_like(num_tokens) + language_model.start()
    longest = tf.reduce_max(tf.concat([tf.reshape(num_tokens, [-1]), [0]], 0))
    _, states, total = tf.while_loop(
        lambda place, *_: place < longest,
        read,
        (tf.constant(0), first, tf.zeros(tf.shape(num_tokens))),
    )
    return total + language_model.finish(states)
