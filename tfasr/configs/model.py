"""Conformer models and their presets."""

from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Conformer encoder. The defaults are Conformer (S) of Gulati et al. (2020), table 1.

    Args:
        num_blocks: Conformer blocks L.
        dim: Model width D; a multiple of `num_heads`.
        num_heads: Attention heads H.
        ff_factor: Feed-forward inner units for each unit of width.
        conv_kernel: Depthwise kernel size, in frames.
        conv_norm: Normalisation after the depthwise convolution. "batch" is for central
            training only: TFF cannot carry its moving averages.
        norm_groups: Channel groups of the group normalisation; divides `dim`.
        dropout: Residual dropout rate, in [0, 1).
    """

    num_blocks: int = 16
    dim: int = 144
    num_heads: int = 4
    ff_factor: int = 4
    conv_kernel: int = 32
    conv_norm: Literal["group", "batch"] = "group"
    norm_groups: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1; got num_blocks={self.num_blocks}")
        if self.dim % self.num_heads or self.dim % 2:
            raise ValueError(
                "dim must be even and a multiple of num_heads; "
                f"got dim={self.dim}, num_heads={self.num_heads}"
            )
        if self.conv_norm == "group" and self.dim % self.norm_groups:
            raise ValueError(
                f"norm_groups must divide dim; got norm_groups={self.norm_groups}, dim={self.dim}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got dropout={self.dropout}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A Conformer encoder with a CTC head.

    Args:
        encoder: The encoder.
        num_mels: Mel bins F of its features.
        vocabulary: Tokens V without the blank; a run takes it from its tokenizer.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    num_mels: int = 80
    vocabulary: int = 1024


# Gulati et al. (2020), table 1. Width 144 is no multiple of the usual 32 groups; 16 groups
# divide all three widths.
CONFORMER_S = ModelConfig(encoder=EncoderConfig(num_blocks=16, dim=144, num_heads=4))
CONFORMER_M = replace(CONFORMER_S, encoder=replace(CONFORMER_S.encoder, dim=256))
CONFORMER_L = replace(
    CONFORMER_S, encoder=replace(CONFORMER_S.encoder, num_blocks=17, dim=512, num_heads=8)
)
# For a CPU and a small corpus: 6 blocks, 64 wide.
TINY = ModelConfig(
    encoder=EncoderConfig(num_blocks=6, dim=64, conv_kernel=15, norm_groups=8),
    vocabulary=64,
)

PRESETS = {
    "conformer_s": CONFORMER_S,
    "conformer_m": CONFORMER_M,
    "conformer_l": CONFORMER_L,
    "tiny": TINY,
}
