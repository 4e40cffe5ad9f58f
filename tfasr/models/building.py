"""From a configuration to its model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.block import ConformerBlock
from tfasr.models.citrinet import CitrinetBlock, CitrinetEnd
from tfasr.models.decoder import BidirectionalDecoder
from tfasr.models.residual import AfterNorm, deep_norm_factors
from tfasr.models.subsampling import ConvSubsampling
from tfasr.models.transducer import JointNetwork, PredictionNetwork
from tfasr.models.transformer_block import TransformerBlock


def full_ff_units(config: ModelConfig) -> list[tuple[int, ...]]:
    """Inner units of the feed-forward modules of each block, nothing dropped.

    A Conformer's block has two, a Transformer's one, a Citrinet's none. The first of a block
    that stacks frames has so many times more.
    """
    match config.family:
        case "conformer":
            units = config.encoder.dim * config.encoder.ff_factor
            return [
                (units * _stack_factor(config.encoder, block), units)
                for block in range(config.num_blocks)
            ]
        case "transformer":
            return [(config.transformer.ff_units,)] * config.num_blocks
    return [()] * config.num_blocks


def build_model(
    config: ModelConfig,
    ff_units: Sequence[tuple[int, ...]] | None = None,
    precision: Literal["float32", "mixed_bfloat16"] = "float32",
) -> AcousticModel:
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


def _conformer(config: ModelConfig, ff_units: Sequence[tuple[int, ...]]) -> AcousticModel:
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
            encoder.order,
            "causal" if encoder.streaming.chunks else "same",
            _stack_factor(encoder, index),
            name=f"block_{index}",
        )
        for index, units in enumerate(ff_units)
    ]
    return AcousticModel(
        ConvSubsampling(encoder.dim, encoder.subsampling, name="subsampling"),
        blocks,
        config.vocabulary,
        encoder.dropout,
        AfterNorm(epsilon=1e-5, name="after_norm") if encoder.after_norm else None,
        encoder.recompute,
        chunks=encoder.streaming.chunks,
        left_context=encoder.streaming.left_context,
        **_heads(config),
    )


def _stack_factor(encoder: EncoderConfig, block: int) -> int:
    return encoder.stack_factor if block == encoder.stack_at else 1


def _transformer(config: ModelConfig, ff_units: Sequence[tuple[int, ...]]) -> AcousticModel:
    encoder = config.transformer
    blocks = [
        TransformerBlock(
            encoder.num_heads, units[0], encoder.dropout, encoder.attention, name=f"block_{index}"
        )
        for index, units in enumerate(ff_units)
    ]
    return AcousticModel(
        ConvSubsampling(encoder.dim, encoder.subsampling, name="subsampling"),
        blocks,
        config.vocabulary,
        encoder.dropout,
        AfterNorm(epsilon=1e-5, name="after_norm"),
        **_heads(config),
    )


def _citrinet(config: ModelConfig, ff_units: Sequence[tuple[int, ...]]) -> AcousticModel:
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
    return AcousticModel(
        CitrinetEnd(encoder.channels, encoder.prologue_kernel, name="prologue", **squeezed),
        blocks,
        config.vocabulary,
        final=CitrinetEnd(
            encoder.final_channels, encoder.epilogue_kernel, name="epilogue", **squeezed
        ),
        **_heads(config),
    )


def _heads(config: ModelConfig) -> dict[str, Any]:
    return {
        "decoder": _decoder(config),
        "transducer": _transducer(config),
        "ctc": config.ctc,
    }


def _transducer(config: ModelConfig) -> tuple[PredictionNetwork, JointNetwork] | None:
    transducer = config.transducer
    if not transducer.units:
        return None
    return (
        PredictionNetwork(
            config.vocabulary,
            transducer.embedding_dim,
            transducer.units,
            transducer.dropout,
            name="prediction",
        ),
        JointNetwork(config.vocabulary, transducer.joint_dim, transducer.monotonic, name="joint"),
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
