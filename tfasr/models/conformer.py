"""Encoders with a CTC head, and the Conformer first of all."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.configs.model import ModelConfig
from tfasr.models.block import ConformerBlock
from tfasr.models.citrinet import CitrinetBlock, CitrinetEnd
from tfasr.models.decoder import BidirectionalDecoder
from tfasr.models.dropout import dropout, split_seed
from tfasr.models.residual import AfterNorm, deep_norm_factors
from tfasr.models.scopes import build_in_scope
from tfasr.models.subsampling import ConvSubsampling
from tfasr.models.transformer_block import TransformerBlock

Front = ConvSubsampling | CitrinetEnd
Block = ConformerBlock | TransformerBlock | CitrinetBlock


@keras.saving.register_keras_serializable(package="tfasr")
class ConformerCTC(keras.Model):
    """Subsampling, blocks, a projection to tokens and the blank, and perhaps a decoder.

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

    Call:
        features: [B, T, F] float, normalised.
        num_frames: [B] int32, real frames.
        seed: [2] int32 for dropout; None means inference.
        returns: [B, T', V + 1] float32 logits; `encoded_frames` counts the real ones.

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
    ) -> None:
        super().__init__(name="conformer_ctc")
        self.subsampling = subsampling
        self.blocks = list(blocks)
        self.final = final
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.recompute = recompute
        # Logits stay float32: CTC sums probabilities over hundreds of frames.
        self.head = keras.layers.Dense(vocabulary + 1, name="head", dtype="float32")
        self.decoder = decoder

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
        build_in_scope(self.head, inner)
        if self.decoder is not None:
            self.decoder.build(inner)
        self.built = True

    def call(
        self, features: tf.Tensor, num_frames: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        return self.head(self.encode(features, num_frames, seed)[0])

    def encode(
        self, features: tf.Tensor, num_frames: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the head and decoders take in, [B, T', D], and its mask [B, T']."""
        seeds = split_seed(seed)
        x, mask = self.subsample(features, num_frames)
        x = dropout(x, self.dropout, next(seeds))
        for block in self.blocks:
            run = _recomputed if self.recompute and seed is not None else _computed
            x = run(block, x, mask, next(seeds))
            mask = block.compute_mask(x, mask)
        return self._conclude(x, mask, next(seeds)), mask

    def subsample(self, features: tf.Tensor, num_frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first block's input [B, T', D] and its mask."""
        x = self.subsampling(features, mask=tf.sequence_mask(num_frames, tf.shape(features)[1]))
        return x, tf.sequence_mask(self.subsampling.num_frames(num_frames), tf.shape(x)[1])

    def encoded_frames(self, num_frames: tf.Tensor) -> tf.Tensor:
        """Counts the real frames of the encoding, int32 like `num_frames`."""
        # Halves rounded up, one after another, are a whole part rounded up.
        stride = prod(block.stride for block in self.blocks)
        return (self.subsampling.num_frames(num_frames) + stride - 1) // stride

    def logits(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Turns what the last block gives, [B, T', D] and its mask, into logits."""
        return self.head(self._conclude(x, mask, None))

    def _conclude(self, x: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
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
            config["final"] and revive(config["final"]),
            config["recompute"],
            config["decoder"] and revive(config["decoder"]),
        )


def _computed(block: Block, x: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    return block(x, mask=mask, seed=seed)


def _recomputed(block: Block, x: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Calls a block that computes itself anew for its gradient."""

    def call(x: tf.Tensor) -> tf.Tensor:
        # What does not hang on the input, such as dropout's draws, would otherwise be made at
        # once, or once for both passes, and be kept all the while.
        with tf.control_dependencies([x]):
            return block(x, mask=mask, seed=tf.identity(seed))

    @tf.custom_gradient
    def kept(x: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        def gradient(upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
            with tf.control_dependencies([upstream]), tf.GradientTape() as tape:
                again = tf.identity(x)
                tape.watch(again)
                y = call(again)
            with tf.control_dependencies([upstream]):
                of_x, *of_variables = tape.gradient(y, [again, *variables], upstream)
            return of_x, of_variables

        return call(x), gradient

    return kept(x)


def full_ff_units(config: ModelConfig) -> list[tuple[int, ...]]:
    """Inner units of the feed-forward modules of each block, nothing dropped.

    A Conformer's block has two, a Transformer's one, a Citrinet's none.
    """
    match config.family:
        case "conformer":
            units = config.encoder.dim * config.encoder.ff_factor
            return [(units, units)] * config.num_blocks
        case "transformer":
            return [(config.transformer.ff_units,)] * config.num_blocks
    return [()] * config.num_blocks


def build_model(
    config: ModelConfig,
    ff_units: Sequence[tuple[int, ...]] | None = None,
    precision: Literal["float32", "mixed_bfloat16"] = "float32",
) -> ConformerCTC:
    """Builds the model of a configuration, its weights not yet those of a run.

    Args:
        config: The model.
        ff_units: Inner units of each block's feed-forward modules, where a federated client's
            model has fewer than the configuration says; None means all of them.
        precision: Keras's policy: what is computed in. Weights are float32 with either.

    Returns:
        A built model.

    Raises:
        ValueError: `ff_units` does not name every block, or every module of one.
    """
    full = full_ff_units(config)
    ff_units = full if ff_units is None else ff_units
    if len(ff_units) != len(full):
        raise ValueError(
            f"ff_units must name every block; got {len(ff_units)} pairs for num_blocks={len(full)}"
        )
    modules = len(full[0])
    if wrong := [units for units in ff_units if len(units) != modules]:
        raise ValueError(f"ff_units must name {modules} modules of a block; got {wrong[0]}")
    make = {"conformer": _conformer, "transformer": _transformer, "citrinet": _citrinet}
    with _policy(precision):
        model = make[config.family](config, ff_units)
        model.build(tf.TensorShape((None, None, config.num_mels)))
    return model


def _conformer(config: ModelConfig, ff_units: Sequence[tuple[int, ...]]) -> ConformerCTC:
    encoder = config.encoder
    alpha, beta = 1.0, 1.0
    if encoder.residual.startswith("deep_norm"):
        alpha, beta = deep_norm_factors(
            encoder.num_blocks, config.decoder.num_blocks_left, encoder.alpha_of
        )
    blocks = [
        ConformerBlock(
            encoder.num_heads,
            (units[0], units[1]),
            encoder.conv_kernel,
            encoder.conv_norm,
            encoder.norm_groups,
            encoder.dropout,
            encoder.attention,
            encoder.residual,
            alpha,
            beta,
            encoder.conv_bias,
            name=f"block_{index}",
        )
        for index, units in enumerate(ff_units)
    ]
    return ConformerCTC(
        ConvSubsampling(encoder.dim, encoder.subsampling, name="subsampling"),
        blocks,
        config.vocabulary,
        encoder.dropout,
        AfterNorm(epsilon=1e-5, name="after_norm") if encoder.after_norm else None,
        encoder.recompute,
        _decoder(config),
    )


def _transformer(config: ModelConfig, ff_units: Sequence[tuple[int, ...]]) -> ConformerCTC:
    encoder = config.transformer
    blocks = [
        TransformerBlock(
            encoder.num_heads, units[0], encoder.dropout, encoder.attention, name=f"block_{index}"
        )
        for index, units in enumerate(ff_units)
    ]
    return ConformerCTC(
        ConvSubsampling(encoder.dim, encoder.subsampling, name="subsampling"),
        blocks,
        config.vocabulary,
        encoder.dropout,
        AfterNorm(epsilon=1e-5, name="after_norm"),
        decoder=_decoder(config),
    )


def _citrinet(config: ModelConfig, ff_units: Sequence[tuple[int, ...]]) -> ConformerCTC:
    encoder = config.citrinet
    squeezed: dict[str, Any] = {
        "squeeze": encoder.squeeze,
        "norm": encoder.norm,
        "norm_groups": encoder.norm_groups,
    }
    sizes = [
        (kernel, 1 if place else 2)
        for stage in encoder.kernels
        for place, kernel in enumerate(stage)
    ]
    blocks = [
        CitrinetBlock(
            kernel,
            stride,
            encoder.repeat,
            dropout=encoder.dropout,
            name=f"block_{index}",
            **squeezed,
        )
        for index, (kernel, stride) in enumerate(sizes)
    ]
    return ConformerCTC(
        CitrinetEnd(encoder.channels, encoder.prologue_kernel, name="prologue", **squeezed),
        blocks,
        config.vocabulary,
        final=CitrinetEnd(
            encoder.final_channels, encoder.epilogue_kernel, name="epilogue", **squeezed
        ),
        decoder=_decoder(config),
    )


def _decoder(config: ModelConfig) -> BidirectionalDecoder | None:
    decoder = config.decoder
    if not decoder.num_blocks_left:
        return None
    return BidirectionalDecoder(
        decoder.num_blocks_left,
        decoder.num_blocks_right,
        decoder.num_heads,
        decoder.ff_units,
        config.vocabulary,
        decoder.dropout,
        name="decoder",
    )


@contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Has Keras build layers, and those that they make, with a policy."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
