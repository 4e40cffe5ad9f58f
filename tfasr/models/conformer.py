"""The Conformer with a CTC head."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.configs.model import ModelConfig
from tfasr.models.block import ConformerBlock
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.scopes import build_in_scope
from tfasr.models.subsampling import ConvSubsampling, subsampled


@keras.saving.register_keras_serializable(package="tfasr")
class ConformerCTC(keras.Model):
    """Subsampling, Conformer blocks, and a projection to tokens and the blank.

    Args:
        subsampling: From [B, T, F] to [B, ceil(T / 4), D].
        blocks: Conformer blocks of width D.
        vocabulary: Tokens V; the blank is token V.
        dropout: Rate before the first block, in [0, 1).

    Call:
        features: [B, T, F] float, normalised.
        num_frames: [B] int32, real frames.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, ceil(T / 4), V + 1] float32 logits.

    Source: Gulati et al. (2020), section 2.
    """

    def __init__(
        self,
        subsampling: ConvSubsampling,
        blocks: Sequence[ConformerBlock],
        vocabulary: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(name="conformer_ctc")
        self.subsampling = subsampling
        self.blocks = list(blocks)
        self.vocabulary = vocabulary
        self.dropout = dropout
        # Logits stay float32: CTC sums probabilities over hundreds of frames.
        self.head = keras.layers.Dense(vocabulary + 1, name="head", dtype="float32")

    def build(self, input_shape: tf.TensorShape) -> None:
        self.num_mels = int(input_shape[-1])
        build_in_scope(self.subsampling, input_shape)
        inner = (None, None, self.subsampling.dim)
        for block in self.blocks:
            build_in_scope(block, inner)
        build_in_scope(self.head, inner)
        self.built = True

    def call(
        self, features: tf.Tensor, num_frames: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        seeds = split_seed(seed)
        x, mask = self.subsample(features, num_frames)
        x = dropout(x, self.dropout, next(seeds))
        for block in self.blocks:
            x = block(x, mask=mask, seed=next(seeds))
        return self.head(x)

    def subsample(self, features: tf.Tensor, num_frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first block's input [B, ceil(T / 4), D] and its mask."""
        x = self.subsampling(features, mask=tf.sequence_mask(num_frames, tf.shape(features)[1]))
        return x, tf.sequence_mask(subsampled(num_frames), tf.shape(x)[1])

    def get_config(self) -> dict[str, Any]:
        return {
            "subsampling": keras.saving.serialize_keras_object(self.subsampling),
            "blocks": [keras.saving.serialize_keras_object(block) for block in self.blocks],
            "vocabulary": self.vocabulary,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ConformerCTC":
        revive = functools.partial(
            keras.saving.deserialize_keras_object, custom_objects=custom_objects
        )
        return cls(
            revive(config["subsampling"]),
            [revive(block) for block in config["blocks"]],
            config["vocabulary"],
            config["dropout"],
        )


def full_ff_units(config: ModelConfig) -> list[tuple[int, int]]:
    """Inner units of the two feed-forward modules of each block, nothing dropped."""
    units = config.encoder.dim * config.encoder.ff_factor
    return [(units, units)] * config.encoder.num_blocks


def build_model(
    config: ModelConfig,
    ff_units: Sequence[tuple[int, int]] | None = None,
    precision: Literal["float32", "mixed_bfloat16"] = "float32",
) -> ConformerCTC:
    """Builds the model of a configuration, its weights not yet those of a run.

    Args:
        config: The model.
        ff_units: Inner units of each block's two feed-forward modules, where a federated
            client's model has fewer than the configuration says; None means all of them.
        precision: Keras's policy: what is computed in. Weights are float32 with either.

    Returns:
        A built model.

    Raises:
        ValueError: `ff_units` does not name every block.
    """
    encoder = config.encoder
    ff_units = full_ff_units(config) if ff_units is None else ff_units
    if len(ff_units) != encoder.num_blocks:
        raise ValueError(
            "ff_units must name every block; "
            f"got {len(ff_units)} pairs for num_blocks={encoder.num_blocks}"
        )
    with _policy(precision):
        blocks = [
            ConformerBlock(
                encoder.num_heads,
                units,
                encoder.conv_kernel,
                encoder.conv_norm,
                encoder.norm_groups,
                encoder.dropout,
                name=f"block_{index}",
            )
            for index, units in enumerate(ff_units)
        ]
        subsampling = ConvSubsampling(encoder.dim, name="subsampling")
        model = ConformerCTC(subsampling, blocks, config.vocabulary, encoder.dropout)
        model.build(tf.TensorShape((None, None, config.num_mels)))
    return model


@contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Has Keras build layers, and those that they make, with a policy."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
