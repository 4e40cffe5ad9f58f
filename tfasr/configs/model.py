"""Models."""

from dataclasses import dataclass, field
from typing import Literal

AttentionKind = Literal["dense", "probsparse"]
Norm = Literal["group", "batch", "layer", "cumulative_group"]
Residual = Literal["pre_norm", "post_norm", "deep_norm", "deep_norm_mixture", "deep_norm_release"]
Subsampling = Literal["same", "valid"]
Order = Literal["attention_first", "convolution_first"]


@dataclass(frozen=True, kw_only=True)
class StreamingConfig:
    """How an encoder hears audio that is still going on; by default it does not.

    A streaming encoder sees the past alone, but for the frames of one chunk, which see each
    other. Frames here are those that the first block is given, 40 ms each.

    Args:
        chunks: Sizes of the chunks, in frames; 0 stands for the whole utterance. Each batch of a
            training draws one of them; the first is used wherever none is asked for.
        left_context: Frames before a chunk that its frames attend to; of no effect on whole
            utterances.
    """

    chunks: tuple[int, ...] = ()
    left_context: int = 64

    def __post_init__(self) -> None:
        if wrong := [chunk for chunk in self.chunks if chunk < 0]:
            raise ValueError(f"chunks must be at least 0; got chunks={wrong[0]}")
        if len(set(self.chunks)) != len(self.chunks):
            raise ValueError(f"chunks must differ; got chunks={self.chunks}")
        if self.left_context < 0:
            raise ValueError(
                f"left_context must be at least 0; got left_context={self.left_context}"
            )


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
            training only: TFF cannot carry its moving averages. "layer" and "cumulative_group"
            look at no later frame, as a streaming encoder needs.
        norm_groups: Channel groups of a group normalisation; divides `dim`.
        dropout: Residual dropout rate, in [0, 1).
        attention: "dense", or "probsparse" of Wu (2022), "Deep Sparse Conformer", algorithm 1.
        residual: How a module f joins what it is given. "pre_norm" is x + f(LN x), and a norm
            ends the block (Gulati et al.). "post_norm" is LN(x + f(x)). Of Wu (2022):
            "deep_norm" is LN(alpha x + f(x)), equations 12 to 15; "deep_norm_mixture" is
            LN(alpha x + f(LN x)), section 4.4.2; "deep_norm_release" is alpha x + f(LN x), and
            a norm ends the block: the authors' release, and the only form with the parameters
            that the paper prints.
        alpha_of: Depth that deep norm's factors are made for: the number of blocks ("paper"),
            or twice that ("release").
        subsampling: Border of the two convolutions: one frame of zeros ("same"), or none
            ("valid"), where seven frames make the first one.
        conv_bias: Whether the depthwise convolution has a bias.
        after_norm: Whether a layer norm follows the last block.
        recompute: Whether a training step computes each block twice, and in between keeps only
            what the block was given: memory for time.
        order: Which of a block's two middle modules comes first.
        stack_at: Block, from 0, that is given `stack_factor` neighbouring frames as one; its
            first feed-forward module is as much wider. None for none.
        stack_factor: Frames stacked.
        streaming: Chunks and context.
    """

    num_blocks: int = 16
    dim: int = 144
    num_heads: int = 4
    ff_factor: int = 4
    conv_kernel: int = 32
    conv_norm: Norm = "group"
    norm_groups: int = 16
    dropout: float = 0.1
    attention: AttentionKind = "dense"
    residual: Residual = "pre_norm"
    alpha_of: Literal["paper", "release"] = "paper"
    subsampling: Subsampling = "same"
    conv_bias: bool = False
    after_norm: bool = False
    recompute: bool = False
    order: Order = "attention_first"
    stack_at: int | None = None
    stack_factor: int = 2
    streaming: StreamingConfig = field(default_factory=StreamingConfig)

    def __post_init__(self) -> None:
        _check_blocks(self.num_blocks, self.dim, self.num_heads)
        _check_groups(self.conv_norm, self.norm_groups, self.dim, "dim")
        _check_dropout(self.dropout)
        self._check_stacking()
        self._check_streaming()
        if self.alpha_of == "release" and not self.residual.startswith("deep_norm"):
            raise ValueError(
                f"alpha_of=release needs a deep_norm residual; got residual={self.residual}"
            )
        if self.recompute and self.conv_norm == "batch":
            raise ValueError(
                "recompute needs conv_norm=group, for moving averages would move twice a step; "
                "got conv_norm=batch"
            )

    def _check_stacking(self) -> None:
        if self.stack_at is None:
            return
        if not 0 <= self.stack_at < self.num_blocks:
            raise ValueError(
                "stack_at must be a block, from 0 to num_blocks - 1; "
                f"got stack_at={self.stack_at}, num_blocks={self.num_blocks}"
            )
        if self.stack_factor < 2:
            raise ValueError(
                f"stack_factor must be at least 2; got stack_factor={self.stack_factor}"
            )
        if not self.streaming.chunks:
            return
        sizes = [("chunks", chunk) for chunk in self.streaming.chunks]
        for name, frames in (*sizes, ("left_context", self.streaming.left_context)):
            if frames % self.stack_factor:
                raise ValueError(
                    f"streaming.{name} must be a multiple of stack_factor; "
                    f"got {name}={frames}, stack_factor={self.stack_factor}"
                )

    def _check_streaming(self) -> None:
        if not self.streaming.chunks:
            return
        needed = {
            "conv_norm": ("layer", "cumulative_group"),
            "attention": ("dense",),
            "subsampling": ("same",),
        }
        for name, values in needed.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"a streaming encoder needs {name}={' or '.join(values)}; "
                    f"got {name}={getattr(self, name)}, streaming.chunks={self.streaming.chunks}"
                )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Transformer encoder. The defaults have the sizes of WeNet's Transformer baseline.

    Args:
        num_blocks: Transformer blocks L.
        dim: Model width D; even and a multiple of `num_heads`.
        num_heads: Attention heads H.
        ff_units: Feed-forward inner units.
        dropout: Residual dropout rate, in [0, 1).
        attention: As in a Conformer, with relative positions.
        subsampling: As in a Conformer.
    """

    num_blocks: int = 12
    dim: int = 256
    num_heads: int = 4
    ff_units: int = 2048
    dropout: float = 0.1
    attention: AttentionKind = "dense"
    subsampling: Subsampling = "valid"

    def __post_init__(self) -> None:
        _check_blocks(self.num_blocks, self.dim, self.num_heads)
        _check_dropout(self.dropout)
        if self.ff_units < 1:
            raise ValueError(f"ff_units must be at least 1; got ff_units={self.ff_units}")


@dataclass(frozen=True, kw_only=True)
class CitrinetConfig:
    """Citrinet encoder. The defaults are Citrinet-384 of Majumdar et al. (2021).

    Its batch normalisation is a group normalisation here unless `norm` says otherwise.

    Args:
        channels: Channels of the prologue and the mega-blocks.
        final_channels: Channels D of the epilogue.
        kernels: Depthwise kernel sizes of the mega-blocks, in frames, odd, by stage. The first
            block of a stage halves the frames.
        prologue_kernel: Kernel size of the prologue, in frames, odd.
        epilogue_kernel: Kernel size of the epilogue, in frames, odd.
        repeat: Convolutions of a mega-block.
        squeeze: Channels for each unit of the squeeze's inner layer.
        norm: Normalisation after each pointwise convolution. "batch" is for central training
            only: TFF cannot carry its moving averages.
        norm_groups: Channel groups of the group normalisation; divides the channels.
        dropout: Rate after each convolution of a mega-block, in [0, 1).
    """

    channels: int = 384
    final_channels: int = 640
    kernels: tuple[tuple[int, ...], ...] = (
        (11, 13, 15, 17, 19, 21),
        (13, 15, 17, 19, 21, 23, 25),
        (25, 27, 29, 31, 33, 35, 37, 39),
    )
    prologue_kernel: int = 5
    epilogue_kernel: int = 41
    repeat: int = 5
    squeeze: int = 8
    norm: Literal["group", "batch"] = "group"
    norm_groups: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "final_channels"):
            channels = getattr(self, name)
            if self.squeeze < 1 or channels < 1 or channels % self.squeeze:
                raise ValueError(
                    f"squeeze must divide {name}; got squeeze={self.squeeze}, {name}={channels}"
                )
            _check_groups(self.norm, self.norm_groups, channels, name)
        if not self.kernels or not all(self.kernels):
            raise ValueError(f"kernels must name a block in every stage; got {self.kernels}")
        sizes = [self.prologue_kernel, self.epilogue_kernel, *sum(self.kernels, ())]
        if even := [size for size in sizes if size % 2 == 0 or size < 1]:
            raise ValueError(f"kernel sizes must be odd; got {even[0]}")
        if self.repeat < 1:
            raise ValueError(f"repeat must be at least 1; got repeat={self.repeat}")
        _check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Transformer decoders over the encoding, one a reading direction; by default none.

    Args:
        num_blocks_left: Blocks of the decoder that reads from left to right; 0 for no decoder.
        num_blocks_right: Blocks of the one that reads from right to left; 0 for none.
        num_heads: Attention heads; divides the encoding's width.
        ff_units: Feed-forward inner units.
        dropout: Residual dropout rate, in [0, 1).
    """

    num_blocks_left: int = 0
    num_blocks_right: int = 0
    num_heads: int = 4
    ff_units: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("num_blocks_left", "num_blocks_right"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; got {name}={getattr(self, name)}")
        for name in ("num_heads", "ff_units"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        if self.num_blocks_right and not self.num_blocks_left:
            raise ValueError(
                "a decoder from right to left needs one from left to right; "
                f"got num_blocks_left=0, num_blocks_right={self.num_blocks_right}"
            )
        _check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True)
class TransducerConfig:
    """Prediction and joint networks over the encoding; by default none.

    Args:
        units: Units P of the prediction network's LSTM; 0 for no transducer.
        embedding_dim: Width of a token as the LSTM reads it.
        joint_dim: Width J that both sides are projected to.
        monotonic: Whether a token ends its frame, as the blank does, so that no frame has two.
            A token said twice in a row then needs no frame that tells of one but not of two;
            small models learn far sooner. Utterances need as many frames as tokens.
        dropout: Rate on what the LSTM is given and gives, in [0, 1).
    """

    units: int = 0
    embedding_dim: int = 320
    joint_dim: int = 320
    monotonic: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.units < 0:
            raise ValueError(f"units must be at least 0; got units={self.units}")
        for name in ("embedding_dim", "joint_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        _check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """An encoder, and what turns its encoding into tokens.

    That is a CTC head, attention decoders beside one, or a transducer with or without one.

    Args:
        family: Whose encoder: "conformer" takes its settings from `encoder`, the others from
            the section of their name.
        encoder: The Conformer.
        transformer: The Transformer.
        citrinet: The Citrinet.
        decoder: The decoders.
        transducer: The transducer.
        ctc: Whether there is a CTC head.
        num_mels: Mel bins F of its features.
        vocabulary: Tokens V without the blank; a run takes it from its tokenizer.
    """

    family: Literal["conformer", "transformer", "citrinet"] = "conformer"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    citrinet: CitrinetConfig = field(default_factory=CitrinetConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    transducer: TransducerConfig = field(default_factory=TransducerConfig)
    ctc: bool = True
    num_mels: int = 80
    vocabulary: int = 1024

    def __post_init__(self) -> None:
        unused = {
            "conformer": ("encoder", self.encoder, EncoderConfig()),
            "transformer": ("transformer", self.transformer, TransformerConfig()),
            "citrinet": ("citrinet", self.citrinet, CitrinetConfig()),
        }
        wanted = unused.pop(self.family)[0]
        for family, (section, given, default) in unused.items():
            if given != default:
                raise ValueError(
                    f"settings in {section} need family={family}; got family={self.family}, "
                    f"whose settings go in {wanted}"
                )
        self._check_heads()

    def _check_heads(self) -> None:
        decoder, units = self.decoder, self.transducer.units
        if decoder.num_blocks_left and units:
            raise ValueError(
                "a model has attention decoders or a transducer, not both; "
                f"got decoder.num_blocks_left={decoder.num_blocks_left}, transducer.units={units}"
            )
        if not self.ctc and not units:
            raise ValueError("a model without a transducer needs ctc=true; got ctc=false")
        if decoder.num_blocks_left and (self.dim % decoder.num_heads or self.dim % 2):
            raise ValueError(
                "the encoding's width must be even and a multiple of decoder.num_heads; "
                f"got {self.dim}, decoder.num_heads={decoder.num_heads}"
            )

    @property
    def dim(self) -> int:
        """Width D of the encoding."""
        if self.family == "citrinet":
            return self.citrinet.final_channels
        return self.transformer.dim if self.family == "transformer" else self.encoder.dim

    @property
    def num_blocks(self) -> int:
        """Blocks of the encoder."""
        if self.family == "citrinet":
            return sum(map(len, self.citrinet.kernels))
        if self.family == "transformer":
            return self.transformer.num_blocks
        return self.encoder.num_blocks


def _check_blocks(num_blocks: int, dim: int, num_heads: int) -> None:
    if num_blocks < 1:
        raise ValueError(f"num_blocks must be at least 1; got num_blocks={num_blocks}")
    if num_heads < 1 or dim % num_heads or dim % 2:
        raise ValueError(
            f"dim must be even and a multiple of num_heads; got dim={dim}, num_heads={num_heads}"
        )


def _check_groups(norm: Norm, norm_groups: int, channels: int, name: str) -> None:
    grouped = norm in ("group", "cumulative_group")
    if grouped and (norm_groups < 1 or channels % norm_groups):
        raise ValueError(
            f"norm_groups must divide {name}; got norm_groups={norm_groups}, {name}={channels}"
        )


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1); got dropout={dropout}")
