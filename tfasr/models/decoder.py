"""Transformer decoders that read the transcript from the left and from the right."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfasr.models.decoder_attention import KeysAndValues
from tfasr.models.decoder_block import DecoderBlock
from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.normalization import LayerNorm, frames_or_all
from tfasr.models.scopes import build_in_scope


def with_end(tokens: tf.Tensor, num_tokens: tf.Tensor, end: int) -> tf.Tensor:
    """Appends `end` to each row's tokens: what a decoder is to predict.

    Args:
        tokens: [B, U] int32; whatever stands in the padding.
        num_tokens: [B] int32.
        end: The decoder's `vocabulary`.

    Returns:
        [B, U + 1] int32, of which `num_tokens + 1` count; `end` also fills the padding.
    """
    inside = tf.sequence_mask(num_tokens, tf.shape(tokens)[1])
    return tf.pad(tf.where(inside, tokens, end), [[0, 0], [0, 1]], constant_values=end)


def reverse_tokens(tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
    """Reverses the first `num_tokens` [B] of each row of `tokens` [B, U]; padding stays."""
    return tf.reverse_sequence(tokens, num_tokens, seq_axis=1)


def token_positions(places: tf.Tensor, dim: int) -> tf.Tensor:
    """Sinusoids of places.

    Args:
        places: [U] int32.
        dim: D, even.

    Returns:
        [U, D] float32; sines in the first half, cosines in the second.

    Source: Vaswani et al. (2017), section 3.5.
    """
    frequency = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float32) / dim)
    angle = tf.cast(places, tf.float32)[:, None] * frequency
    return tf.concat([tf.sin(angle), tf.cos(angle)], -1)


class DecoderState(NamedTuple):
    """What a decoder keeps between steps; N hypotheses of B utterances, N a multiple of B.

    Its tensors have no static batch and length, so it may go round a `tf.while_loop` as it is.

    Args:
        num_read: Scalar int32, symbols read so far by every hypothesis.
        mask: [B, T] bool, True on real frames.
        memory: Keys and values of the encoder's output, [B, H, T, D/H], by block.
        cache: Keys and values of the symbols read, [N, H, num_read, D/H], by block.
    """

    num_read: tf.Tensor
    mask: tf.Tensor
    memory: tuple[KeysAndValues, ...]
    cache: tuple[KeysAndValues, ...]


@keras.saving.register_keras_serializable(package="tfasr")
class TransformerDecoder(keras.layers.Layer):
    """Predicts each token from those before it and from the encoder's output.

    One symbol, V, stands for start and end.

    Args:
        num_blocks: Blocks.
        num_heads: Attention heads H; divides D.
        ff_units: Inner units of the feed-forward modules.
        vocabulary: Tokens V.
        dropout: Rate after the embedding and in the blocks, in [0, 1).

    Call:
        encoded: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        tokens: [N, U] int32 in [0, V) inside their lengths; N is a multiple of B, and rows of
            one utterance stand together.
        num_tokens: [N] int32.
        seed: [2] int32 for dropout; None means inference.
        returns: [N, U + 1, V + 1] float32 logits: place u has read the start and u tokens.

    Raises:
        ValueError: There is no block, D is odd, or `num_heads` does not divide it.

    Source: Vaswani et al. (2017), section 3, with layer norms in front of the modules and after
        the last block.
    """

    def __init__(
        self,
        num_blocks: int,
        num_heads: int,
        ff_units: int,
        vocabulary: int,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1; got num_blocks={num_blocks}")
        self.num_heads = num_heads
        self.ff_units = ff_units
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.supports_masking = True
        self.blocks = [
            DecoderBlock(num_heads, ff_units, dropout, name=f"block_{index}")
            for index in range(num_blocks)
        ]
        self.norm = LayerNorm(name="norm")
        # Logits stay float32: an utterance's loss sums log-probabilities over its tokens.
        self.output_dense = Dense(vocabulary + 1, name="output", dtype="float32")

    def build(self, input_shape: tf.TensorShape) -> None:
        self.dim = int(input_shape[-1])
        if self.dim % 2:
            raise ValueError(f"D must be even for sinusoids; got D={self.dim}")
        # Times sqrt(D), an embedding has unit variance, about that of the sinusoids beside it.
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary + 1, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=self.dim**-0.5),
            experimental_autocast=False,
        )
        for layer in (*self.blocks, self.norm, self.output_dense):
            build_in_scope(layer, (None, None, self.dim))
        super().build(input_shape)

    def call(
        self,
        encoded: tf.Tensor,
        mask: tf.Tensor | None,
        tokens: tf.Tensor,
        num_tokens: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        # A token is read one place after the one where it is predicted.
        symbols = tf.roll(with_end(tokens, num_tokens, self.vocabulary), 1, 1)
        x = self._embed(symbols, tf.range(tf.shape(symbols)[1]))
        x = dropout(x, self.dropout, next(seeds))
        for block in self.blocks:
            x = block(x, encoded, mask=mask, seed=next(seeds))
        return self.output_dense(self.norm(x))

    def score(
        self,
        encoded: tf.Tensor,
        mask: tf.Tensor | None,
        tokens: tf.Tensor,
        num_tokens: tf.Tensor,
    ) -> tf.Tensor:
        """Computes the log-probability of whole token sequences and their ends.

        Holds logits of [B N, U + 1, V + 1] at a time, and the encoder's output once.

        Args:
            encoded: [B, T, D].
            mask: [B, T] bool, or None.
            tokens: [B, N, U] int32, N sequences for each utterance.
            num_tokens: [B, N] int32.

        Returns:
            [B, N] float32.
        """
        num_tokens_flat = tf.reshape(num_tokens, [-1])
        flat = tf.reshape(tokens, [tf.size(num_tokens), tf.shape(tokens)[2]])
        logits = self(encoded, mask, flat, num_tokens_flat)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            with_end(flat, num_tokens_flat, self.vocabulary), logits
        )  # [B N, U + 1]
        inside = tf.sequence_mask(num_tokens_flat + 1, tf.shape(losses)[1])
        total = -tf.reduce_sum(tf.where(inside, losses, 0.0), 1)
        return tf.reshape(total, tf.shape(num_tokens))

    def start(
        self, encoded: tf.Tensor, mask: tf.Tensor | None = None, hypotheses: int | tf.Tensor = 1
    ) -> DecoderState:
        """Makes the state in which nothing has been read; `vocabulary` is to be read first.

        Args:
            encoded: [B, T, D].
            mask: [B, T] bool, or None.
            hypotheses: Of each utterance. They share one copy of the encoder's output, which
                tiling `encoded` would not.

        Returns:
            The state of N = B * hypotheses rows.
        """
        size = self.dim // self.num_heads
        shape = (tf.shape(encoded)[0] * hypotheses, self.num_heads, 0, size)
        empty = tf.zeros(shape, self.compute_dtype)
        heads = (None, self.num_heads, None, size)
        memory, cache = [], []
        for block in self.blocks:
            keys, values = block.cross_attention.project(encoded)
            memory.append((_loosened(keys, heads), _loosened(values, heads)))
            cache.append((_loosened(empty, heads), _loosened(empty, heads)))
        mask = _loosened(frames_or_all(mask, encoded), (None, None))
        return DecoderState(tf.constant(0), mask, tuple(memory), tuple(cache))

    def step(self, state: DecoderState, tokens: tf.Tensor) -> tuple[tf.Tensor, DecoderState]:
        """Reads one symbol for each hypothesis.

        Args:
            state: Of `start`, `step` or `reorder`.
            tokens: [N] int32 in [0, V]; V is the start.

        Returns:
            [N, V + 1] float32 log-probabilities of the next symbol, V being the end; and the
            state after it.
        """
        x = self._embed(tokens[:, None], state.num_read[None])  # [N, 1, D]
        cache = []
        for block, memory, before in zip(self.blocks, state.memory, state.cache, strict=True):
            x, after = block.step(x, memory, state.mask, before)
            cache.append(after)
        logits = self.output_dense(self.norm(x))[:, 0]
        read = state._replace(num_read=state.num_read + 1, cache=tuple(cache))
        return tf.nn.log_softmax(logits), read

    def reorder(self, state: DecoderState, indices: tf.Tensor) -> DecoderState:
        """Picks hypotheses, some perhaps twice and others never.

        Args:
            state: Of N rows, K for each utterance.
            indices: [M] int32 in [0, N), the row that each new row goes on from. K new rows
                that stand together are of one utterance.

        Returns:
            The state of M rows, K for each utterance.
        """
        num_utterances = tf.shape(state.mask)[0]
        hypotheses = tf.shape(state.cache[0][0])[0] // num_utterances
        utterances = tf.reshape(indices, [-1, hypotheses])[:, 0] // hypotheses
        held = (state.mask, state.memory)

        def picked() -> Any:
            return tf.nest.map_structure(lambda x: tf.gather(x, utterances), held)

        # A beam search picks within utterances, and what they hold is large.
        unchanged = tf.size(utterances) == num_utterances
        unchanged &= tf.reduce_all(utterances == tf.range(tf.size(utterances)))
        mask, memory = tf.cond(unchanged, lambda: held, picked)
        cache = tf.nest.map_structure(lambda x: tf.gather(x, indices), state.cache)
        return DecoderState(state.num_read, mask, memory, cache)

    def _embed(self, symbols: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        # `gather_nd` of a tensor has a dense gradient; slices would be clipped by the norm of
        # their parts, not of the sum for a symbol.
        table = tf.convert_to_tensor(self.embeddings)
        embedded = tf.gather_nd(table, symbols[..., None]) * self.dim**0.5  # [N, U, D]
        return tf.cast(embedded + token_positions(places, self.dim), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_blocks": len(self.blocks),
            "num_heads": self.num_heads,
            "ff_units": self.ff_units,
            "vocabulary": self.vocabulary,
            "dropout": self.dropout,
        }


def _loosened(x: tf.Tensor, shape: tuple[int | None, ...]) -> tf.Tensor:
    """Forgets static sizes, so that a loop may carry tensors that grow."""
    return tf.compat.v1.placeholder_with_default(x, shape)


@keras.saving.register_keras_serializable(package="tfasr")
class BidirectionalDecoder(keras.layers.Layer):
    """A decoder that reads from the left, and perhaps one that reads from the right.

    Its variables are named "left_decoder/..." and "right_decoder/...": build it outside a scope
    of its own.

    Args:
        num_blocks_left: Blocks that read from the left, at least 1.
        num_blocks_right: Blocks that read from the right; 0 means no such decoder.
        num_heads: Attention heads; divides D.
        ff_units: Inner units of the feed-forward modules.
        vocabulary: Tokens V; symbol V is start and end in both directions.
        dropout: Rate in [0, 1).

    Call:
        encoded: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        tokens: [B, U] int32 in [0, V) inside their lengths, in reading order.
        num_tokens: [B] int32.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, U + 1, V + 1] float32 logits of either direction; the right one predicts
            `reverse_tokens`, and is None where there is no such decoder.

    Raises:
        ValueError: There is no left block, or less than no right block.

    Source: Wu (2022), "Deep Sparse Conformer", section 4.1.
    """

    def __init__(
        self,
        num_blocks_left: int,
        num_blocks_right: int,
        num_heads: int,
        ff_units: int,
        vocabulary: int,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_blocks_left < 1 or num_blocks_right < 0:
            raise ValueError(
                "num_blocks_left must be at least 1 and num_blocks_right at least 0; "
                f"got num_blocks_left={num_blocks_left}, num_blocks_right={num_blocks_right}"
            )
        shared: dict[str, Any] = {
            "num_heads": num_heads,
            "ff_units": ff_units,
            "vocabulary": vocabulary,
            "dropout": dropout,
        }
        self.settings = {
            "num_blocks_left": num_blocks_left,
            "num_blocks_right": num_blocks_right,
            **shared,
        }
        self.supports_masking = True
        self.left = TransformerDecoder(num_blocks_left, **shared, name="left_decoder")
        self.right: TransformerDecoder | None = None
        if num_blocks_right:
            self.right = TransformerDecoder(num_blocks_right, **shared, name="right_decoder")

    def build(self, input_shape: tf.TensorShape) -> None:
        build_in_scope(self.left, input_shape)
        if self.right is not None:
            build_in_scope(self.right, input_shape)
        super().build(input_shape)

    def call(
        self,
        encoded: tf.Tensor,
        mask: tf.Tensor | None,
        tokens: tf.Tensor,
        num_tokens: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        seeds = split_seed(seed)
        left = self.left(encoded, mask, tokens, num_tokens, next(seeds))
        if self.right is None:
            return left, None
        reverse = reverse_tokens(tokens, num_tokens)
        return left, self.right(encoded, mask, reverse, num_tokens, next(seeds))

    def score(
        self,
        encoded: tf.Tensor,
        mask: tf.Tensor | None,
        tokens: tf.Tensor,
        num_tokens: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Computes `TransformerDecoder.score` of either direction, tokens in reading order."""
        left = self.left.score(encoded, mask, tokens, num_tokens)
        if self.right is None:
            return left, None
        flat = tf.reshape(tokens, [tf.size(num_tokens), tf.shape(tokens)[2]])
        reverse = reverse_tokens(flat, tf.reshape(num_tokens, [-1]))
        reverse = tf.reshape(reverse, tf.shape(tokens))
        return left, self.right.score(encoded, mask, reverse, num_tokens)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
