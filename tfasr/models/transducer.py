"""The transducer's prediction and joint networks."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.lstm import Lstm, LstmState
from tfasr.models.scopes import build_in_scope


@keras.saving.register_keras_serializable(package="tfasr")
class PredictionNetwork(keras.layers.Layer):
    """An embedding and an LSTM that read the tokens before the next one.

    Symbol V, the blank among the joint network's outputs, stands for the start here.

    Args:
        vocabulary: Tokens V.
        embedding_dim: Width of a token as the LSTM reads it.
        units: Units P of the LSTM.
        dropout: Rate on what the LSTM is given and gives, in [0, 1).

    Call:
        tokens: [B, U] int32; whatever stands in the padding.
        num_tokens: [B] int32.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, U + 1, P]: place u has read the start and u tokens.

    Source: Graves (2012), "Sequence Transduction with Recurrent Neural Networks", section 2.1.
    """

    def __init__(
        self, vocabulary: int, embedding_dim: int, units: int, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "vocabulary": vocabulary,
            "embedding_dim": embedding_dim,
            "units": units,
            "dropout": dropout,
        }
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.lstm = Lstm(units, name="lstm")

    def build(self, input_shape: Any = None) -> None:
        width = self.settings["embedding_dim"]
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary + 1, width),
            initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
            experimental_autocast=False,
        )
        build_in_scope(self.lstm, (None, None, width))
        super().build(input_shape)

    def call(
        self, tokens: tf.Tensor, num_tokens: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        inside = tf.sequence_mask(num_tokens, tf.shape(tokens)[1])
        symbols = tf.pad(
            tf.where(inside, tokens, self.vocabulary),
            [[0, 0], [1, 0]],
            constant_values=self.vocabulary,
        )
        x = dropout(self._embedded(symbols), self.dropout, next(seeds))
        return dropout(self.lstm(x)[0], self.dropout, next(seeds))

    def start(self, batch: tf.Tensor) -> tuple[tf.Tensor, LstmState]:
        """Reads the start: the output [B, P] and the state, for `batch` (scalar int32) rows."""
        return self.step(tf.fill([batch], self.vocabulary), self.lstm.start(batch))

    def step(self, symbols: tf.Tensor, state: LstmState) -> tuple[tf.Tensor, LstmState]:
        """Reads a symbol [B] int32 in [0, V]: the output [B, P] and the state after it."""
        # Not as a sequence of one: LiteRT has no scan in a loop.
        return self.lstm.step(self._embedded(symbols), state)

    def _embedded(self, symbols: tf.Tensor) -> tf.Tensor:
        # Embeddings start with variance 1 / D: scaled, an LSTM's gates are given unit variance.
        scale = self.settings["embedding_dim"] ** 0.5
        return tf.cast(tf.gather(self.embeddings, symbols) * scale, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tfasr")
class JointNetwork(keras.layers.Layer):
    """Scores every next symbol from a frame and from the tokens so far.

    A loss over all pairs of frames and tokens takes the three layers apart: it projects either
    side once, and never holds the scores of all pairs.

    Args:
        vocabulary: Tokens V; the blank is V.
        joint_dim: Width J.
        monotonic: Whether a token ends its frame, as the blank does. The scores are the same;
            losses and searches go by it.

    Call:
        encoded: [..., D] float, a frame each.
        predicted: [..., P] float, of the prediction network; broadcast against the frames.
        returns: [..., V + 1] float32 logits.

    Source: Graves et al. (2013), "Speech Recognition with Deep Recurrent Neural Networks",
        section 3.1, eq. 15-18; Tripathi et al. (2019), "Monotonic Recurrent Neural Network
        Transducer and Decoding Strategies".
    """

    def __init__(
        self, vocabulary: int, joint_dim: int, monotonic: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "vocabulary": vocabulary,
            "joint_dim": joint_dim,
            "monotonic": monotonic,
        }
        self.vocabulary = vocabulary
        self.joint_dim = joint_dim
        self.monotonic = monotonic
        self.encoder_dense = Dense(joint_dim, name="encoder")
        self.prediction_dense = Dense(joint_dim, name="prediction")
        self.output_dense = Dense(vocabulary + 1, name="output", dtype="float32")

    def build(self, input_shape: tuple[int, int]) -> None:
        encoded, predicted = input_shape
        build_in_scope(self.encoder_dense, (None, encoded))
        build_in_scope(self.prediction_dense, (None, predicted))
        build_in_scope(self.output_dense, (None, self.joint_dim))
        super().build(input_shape)

    def call(self, encoded: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
        both = self.encoder_dense(encoded) + self.prediction_dense(predicted)
        return self.output_dense(tf.tanh(both))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
