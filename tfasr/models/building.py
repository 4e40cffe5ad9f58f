"""From a configuration to its model."""

from collections.abc import Iterator, Mapping, Sequence
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

# Of each block, by module.
Units = Sequence[Mapping[str, int]]


def full_units(config: ModelConfig) -> list[dict[str, int]]:
    """Units of the modules of each block that a client's model may do without some of.

    Of a Conformer: inner units of its feed-forward modules (the first of a block that stacks
    frames has so many times more), heads of its attention, and channels of its convolution, or
    the groups that these are normalised in. Of a Transformer, inner units; of a Citrinet, none.
    """
    encoder = config.encoder
    match config.family:
        case "conformer":
            grouped = encoder.conv_norm in ("group", "cumulative_group")
            inner = encoder.dim * encoder.ff_factor
            return [
                {
                    "feed_forward_1": inner * _stack_factor(encoder, block),
                    "attention": encoder.num_heads,
                    "convolution": encoder.norm_groups if grouped else encoder.dim,
                    "feed_forward_2": inner,
                }
                for block in range(config.num_blocks)
            ]
        case "transformer":
            inner = config.transformer.ff_units
            return [{"feed_forward": inner} for _ in range(config.num_blocks)]
    return [{} for _ in range(config.num_blocks)]


def build_model(
    config: ModelConfig,
    units: Units | None = None,
    precision: Literal["float32", "mixed_bfloat16"] = "float32",
) -> AcousticModel:
    """Builds the model of a configuration, its weights not yet those of a run.

    Args:
        config: The model.
        units: Of each block's modules, where a federated client's model has fewer of them than
            `full_units`; modules that are not named, and None, mean all of them.
        precision: Keras's policy: what is computed in. Weights are float32 with either.

    Returns:
        A built model.

    Raises:
        ValueError: `units` does not name every block, names a module without units, or wants
            more than there are or none.
    """
    make = {"conformer": _conformer, "transformer": _transformer, "citrinet": _citrinet}
    with _policy(precision):
        model = make[config.family](config, _checked(units, full_units(config)))
        model.build(tf.TensorShape((None, None, config.num_mels)))
    return model


def _checked(units: Units | None, full: Units) -> Units:
    if units is None:
        return full
    if len(units) != len(full):
        raise ValueError(
            f"units must name every block; got {len(units)} for num_blocks={len(full)}"
        )
    for block, (some, all_of_them) in enumerate(zip(units, full, strict=True)):
        for module, count in some.items():
            if not 0 < count <= all_of_them.get(module, 0):
                raise ValueError(
                    f"units of block {block}'s {module} must be between 1 and "
                    f"{all_of_them.get(module, 0)}; got {count}"
                )
    return [{**all_of_them, **some} for some, all_of_them in zip(units, full, strict=True)]


def _conformer(config: ModelConfig, units: Units) -> AcousticModel:
    encoder = config.encoder
    full = full_units(config)
    alpha, beta = 1.0, 1.0
    if encoder.residual.startswith("deep_norm"):
        alpha, beta = deep_norm_factors(
            encoder.num_blocks, config.decoder.num_blocks_left, encoder.alpha_of
        )
    blocks = [
        ConformerBlock(
            encoder.num_heads,
            (kept["feed_forward_1"], kept["feed_forward_2"]),
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
            encoder.num_heads - kept["attention"],
            encoder.dim - kept["convolution"] * (encoder.dim // full[index]["convolution"]),
            name=f"block_{index}",
        )
        for index, kept in enumerate(units)
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


def _transformer(config: ModelConfig, units: Units) -> AcousticModel:
    encoder = config.transformer
    blocks = [
        TransformerBlock(
            encoder.num_heads,
            kept["feed_forward"],
            encoder.dropout,
            encoder.attention,
            name=f"block_{index}",
        )
        for index, kept in enumerate(units)
    ]
    return AcousticModel(
        ConvSubsampling(encoder.dim, encoder.subsampling, name="subsampling"),
        blocks,
        config.vocabulary,
        encoder.dropout,
        AfterNorm(epsilon=1e-5, name="after_norm"),
        **_heads(config),
    )


def _citrinet(config: ModelConfig, units: Units) -> AcousticModel:
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
