"""Encoders with what turns their encoding into tokens, and the Conformer first of all."""

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

import keras
import tensorflow as tf

from tfasr.models.attention import chunk_mask
from tfasr.models.block import ConformerBlock
from tfasr.models.citrinet import CitrinetBlock, CitrinetEnd
from tfasr.models.decoder import BidirectionalDecoder
from tfasr.models.dense import Dense
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.recomputation import recomputed
from tfasr.models.residual import AfterNorm, ResidualPath
from tfasr.models.scopes import build_in_scope
from tfasr.models.subsampling import ConvSubsampling
from tfasr.models.transducer import JointNetwork, PredictionNetwork
from tfasr.models.transformer_block import TransformerBlock

Front = ConvSubsampling | CitrinetEnd
Block = ConformerBlock | TransformerBlock | CitrinetBlock | ResidualPath

# Sets the draw of a batch's chunk apart from dropout's.
_CHUNK = 1_000_007


@keras.saving.register_keras_serializable(package="tfasr")
class AcousticModel(keras.Model):
    """Subsampling, blocks, and a CTC head, attention decoders or a transducer.

    Args:
        subsampling: From [B, T, F] to [B, T', D]; a Citrinet's prologue, which keeps all
            frames, as its blocks subsample.
        blocks: Of width D.
        vocabulary: Tokens V; the blank is token V.
        dropout: Rate before the first block, in [0, 1).
        final: From what the last block gives to the encoding; None for nothing.
        recompute: Whether training keeps what each block is given only, and computes the block
            once more for its gradient.
        decoder: Over the encoding; None for none. A call leaves it out: it takes what `encode`
            returns.
        transducer: Prediction and joint networks, left out of a call likewise; None for none.
        ctc: Whether there is a CTC head.
        chunks: Chunks that a frame sees whole, in the first block's frames; 0 stands for the
            whole utterance. Each training batch draws one, and inference takes the first. None
            at all for a model that does not stream.
        left_context: Frames that it sees before its chunk, in the first block's frames.

    Call:
        features: [B, T, F] float, normalised.
        num_frames: [B] int32, real frames.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, T', V + 1] float32 CTC logits; `encoded_frames` counts the real ones.

    Source: Gulati et al. (2020), section 2.
    """

    def __init__(
        self,
        subsampling: Front,
        blocks: Sequence[Block],
        vocabulary: int,
        dropout: float = 0.0,
        final: AfterNorm | CitrinetEnd | None = None,
        recompute: bool = False,
        decoder: BidirectionalDecoder | None = None,
        transducer: tuple[PredictionNetwork, JointNetwork] | None = None,
        ctc: bool = True,
        chunks: Sequence[int] = (),
        left_context: int = 0,
    ) -> None:
        super().__init__(name="acoustic_model")
        self.subsampling = subsampling
        self.blocks = list(blocks)
        self.final = final
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.recompute = recompute
        self.chunks = tuple(chunks)
        self.left_context = left_context
        # Logits stay float32: CTC sums probabilities over hundreds of frames.
        self.head: Any = None
        if ctc:
            self.head = Dense(vocabulary + 1, name="head", dtype="float32")
        self.decoder = decoder
        self.prediction: Any = transducer and transducer[0]
        self.joint: Any = transducer and transducer[1]

    @property
    def gains(self) -> dict[str, float]:
        """Xavier gains other than 1 of the first weights, by the variable's path."""
        return {
            f"{block.name}/{place}": gain
            for block in self.blocks
            for place, gain in block.gains.items()
        }

    def build(self, input_shape: tf.TensorShape) -> None:
        self.num_mels = int(input_shape[-1])
        build_in_scope(self.subsampling, input_shape)
        inner = tf.TensorShape([None, None, self.subsampling.dim])
        for block in self.blocks:
            build_in_scope(block, inner)
        if self.final is not None:
            build_in_scope(self.final, inner)
            inner = self.final.compute_output_shape(inner)
        if self.head is not None:
            build_in_scope(self.head, inner)
        if self.decoder is not None:
            self.decoder.build(inner)
        if self.prediction is not None:
            build_in_scope(self.prediction, None)
            build_in_scope(self.joint, (inner[-1], self.prediction.lstm.units))
        self.built = True

    def call(
        self, features: tf.Tensor, num_frames: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        return self.head(self.encode(features, num_frames, seed)[0])

    def encode(
        self,
        features: tf.Tensor,
        num_frames: tf.Tensor,
        seed: tf.Tensor | None = None,
        chunk: tf.Tensor | int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes a batch.

        Args:
            features: [B, T, F] float, normalised.
            num_frames: [B] int32, real frames.
            seed: [2] int32 for dropout and the chunk; None means inference.
            chunk: Frames of the first block that see each other, scalar int32, a multiple of
                the blocks' strides; 0 for the whole utterance. None draws one of `chunks` with
                the seed, and without one takes the first.

        Returns:
            What the head and decoders take in, [B, T', D], and its mask [B, T'].

        Raises:
            ValueError: There is a chunk, and the model does not stream, or the strides do not
                divide it.
        """
        seeds = split_seed(seed)
        chunk = self._chosen(chunk, seed)
        x, mask = self.subsample(features, num_frames)
        x = dropout(x, self.dropout, next(seeds))
        visible: dict[str, tf.Tensor] = {}
        for index, block in enumerate(self.blocks):
            if index == 0 or block.stride > 1:
                visible = self.visible(index, tf.shape(x)[1], chunk)
            inputs = {"mask": mask, "seed": next(seeds), **visible}
            again = self.recompute and seed is not None
            x = recomputed(block, x, inputs) if again else block(x, **inputs)
            mask = block.compute_mask(x, mask)
        return self.conclude(x, mask, next(seeds)), mask

    def _chosen(self, chunk: tf.Tensor | int | None, seed: tf.Tensor | None) -> tf.Tensor:
        if chunk is None and len(self.chunks) > 1 and seed is not None:
            own = tf.random.experimental.stateless_fold_in(seed, _CHUNK)
            draw = tf.random.stateless_uniform([], own, 0, len(self.chunks), tf.int32)
            return tf.gather(tf.constant(self.chunks), draw)
        if chunk is None:
            return self.chunks[0] if self.chunks else None
        if not self.chunks:
            raise ValueError(f"a model that does not stream has no chunks; got chunk={chunk}")
        known, stride = tf.get_static_value(chunk), prod(block.stride for block in self.blocks)
        if known is not None and (known < 0 or known % stride):
            raise ValueError(f"chunk must be 0 or a multiple of {stride}; got chunk={known}")
        return chunk

    def visible(
        self, index: int, num_frames: tf.Tensor, chunk: tf.Tensor | int | None = None
    ) -> dict[str, tf.Tensor]:
        """Says which frames see each other in a block.

        Args:
            index: Of the block.
            num_frames: T that the block is given, scalar int32.
            chunk: As `encode` takes it; None for the first of `chunks`.

        Returns:
            "attention_mask" [T', T'] bool for the block's call; nothing for a model that does
            not stream, or a chunk of the whole utterance that is known beforehand.
        """
        if not self.chunks:
            return {}
        chunk = self.chunks[0] if chunk is None else chunk
        if tf.get_static_value(chunk) == 0:
            return {}
        rate = prod(block.stride for block in self.blocks[: index + 1])
        frames = -(-num_frames // self.blocks[index].stride)
        return {"attention_mask": chunk_mask(frames, chunk // rate, self.left_context // rate)}

    def subsample(self, features: tf.Tensor, num_frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first block's input [B, T', D] and its mask."""
        x = self.subsampling(features, mask=tf.sequence_mask(num_frames, tf.shape(features)[1]))
        return x, tf.sequence_mask(self.subsampling.num_frames(num_frames), tf.shape(x)[1])

    def encoded_frames(self, num_frames: tf.Tensor) -> tf.Tensor:
        """Counts the real frames of the encoding, int32 like `num_frames`."""
        # Halves rounded up, one after another, are a whole part rounded up.
        stride = prod(block.stride for block in self.blocks)
        return (self.subsampling.num_frames(num_frames) + stride - 1) // stride

    def conclude(self, x: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Turns what the last block gives, [B, T', D] and its mask, into the encoding."""
        return x if self.final is None else self.final(x, mask=mask, seed=seed)

    def get_config(self) -> dict[str, Any]:
        store = keras.saving.serialize_keras_object
        return {
            "subsampling": store(self.subsampling),
            "blocks": [store(block) for block in self.blocks],
            "vocabulary": self.vocabulary,
            "dropout": self.dropout,
            "final": self.final and store(self.final),
            "recompute": self.recompute,
            "decoder": self.decoder and store(self.decoder),
            "transducer": self.joint and [store(self.prediction), store(self.joint)],
            "ctc": self.head is not None,
            "chunks": self.chunks,
            "left_context": self.left_context,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AcousticModel":
        revive = functools.partial(
            keras.saving.deserialize_keras_object, custom_objects=custom_objects
        )
        return cls(
            revive(config["subsampling"]),
            [revive(block) for block in config["blocks"]],
            config["vocabulary"],
            config["dropout"],
            config["final"] and revive(config["final"]),
            config["recompute"],
            config["decoder"] and revive(config["decoder"]),
            config["transducer"] and tuple(revive(part) for part in config["transducer"]),
            config["ctc"],
            config["chunks"],
            config["left_context"],
        )
