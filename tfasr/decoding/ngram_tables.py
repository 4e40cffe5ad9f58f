"""Scores of an n-gram language model, in the graph."""

import tensorflow as tf

from tfasr.decoding.ngram import NgramModel


class NgramTables:
    """A `LanguageModel` that steps as `NgramModel` does, with constants and stock operations.

    They take 16 bytes an n-gram, and as constants of an exported graph must stay below 2 GB.

    Args:
        model: The language model.
    """

    def __init__(self, model: NgramModel) -> None:
        self._start = model.start
        self._order = model.order
        self._num_words = tf.constant(model.num_words, tf.int64)
        self._end = model.end
        self._word_of_token = tf.constant(model.word_of_token)
        self._keys = tf.constant(model.keys)
        self._log_probabilities = tf.constant(model.log_probabilities)
        self._next_states = tf.constant(model.next_states)
        self._backoffs = tf.constant(model.backoffs)
        self._shorter_states = tf.constant(model.shorter_states)

    def start(self) -> tf.Tensor:
        """Gives the state before a sentence's first token, a scalar int32."""
        return tf.constant(self._start, tf.int32)

    def step(self, states: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Follows states by tokens.

        Args:
            states: int32 of any shape, such as [B, K, 1]; `start()` before the first token.
            tokens: int32 in [0, V), of a shape that broadcasts with the states', such as [V].

        Returns:
            The states after the tokens, int32, and the tokens' natural log probabilities,
            float32, both of the common shape.
        """
        return self._step(states, tf.gather(self._word_of_token, tokens))

    def finish(self, states: tf.Tensor) -> tf.Tensor:
        """Gives the natural log probability that a sentence ends in each state."""
        return self._step(states, tf.constant(self._end, tf.int64))[1]

    def _step(self, states: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.broadcast_dynamic_shape(tf.shape(states), tf.shape(words))
        states = tf.reshape(tf.broadcast_to(states, shape), [-1])
        words = tf.reshape(tf.broadcast_to(words, shape), [-1])
        penalties = tf.zeros_like(states, tf.float32)
        entries, missing = self._look_up(states, words)
        # A context has at most order - 1 words to drop.
        for _ in range(self._order - 1):
            penalties += tf.where(missing, tf.gather(self._backoffs, states), 0.0)
            states = tf.where(missing, tf.gather(self._shorter_states, states), states)
            entries, missing = self._look_up(states, words)
        log_probabilities = penalties + tf.gather(self._log_probabilities, entries)
        next_states = tf.gather(self._next_states, entries)
        return tf.reshape(next_states, shape), tf.reshape(log_probabilities, shape)

    def _look_up(self, states: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wanted = tf.cast(states, tf.int64) * self._num_words + words
        entries = tf.searchsorted(self._keys, wanted)
        entries = tf.minimum(entries, tf.size(self._keys) - 1)
        return entries, tf.gather(self._keys, entries) != wanted
