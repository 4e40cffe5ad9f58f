"""The presets: models of the papers, and a tiny one."""

from dataclasses import replace

from tfasr.configs.model import (
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    StreamingConfig,
    TransducerConfig,
)

# Gulati et al. (2020), table 1. Width 144 is no multiple of the usual 32 groups; 16 groups
# divide all three widths.
CONFORMER_S = ModelConfig(encoder=EncoderConfig(num_blocks=16, dim=144, num_heads=4))
CONFORMER_M = replace(CONFORMER_S, encoder=replace(CONFORMER_S.encoder, dim=256))
CONFORMER_L = replace(
    CONFORMER_S, encoder=replace(CONFORMER_S.encoder, num_blocks=17, dim=512, num_heads=8)
)
# Their transducers, with one LSTM for a decoder. 1,024 outputs count the blank in; no CTC head.
CONFORMER_S_TRANSDUCER = replace(
    CONFORMER_S, transducer=TransducerConfig(units=320), ctc=False, vocabulary=1023
)
CONFORMER_M_TRANSDUCER = replace(
    CONFORMER_S_TRANSDUCER, encoder=CONFORMER_M.encoder, transducer=TransducerConfig(units=640)
)
CONFORMER_L_TRANSDUCER = replace(CONFORMER_M_TRANSDUCER, encoder=CONFORMER_L.encoder)
# Ambient-layers paper, section 2.2: 17 blocks, convolution before attention, a stacking block 4.
STREAMING_CONFORMER = replace(
    CONFORMER_L_TRANSDUCER,
    encoder=EncoderConfig(
        num_blocks=17,
        dim=512,
        num_heads=8,
        conv_kernel=15,
        conv_norm="layer",
        order="convolution_first",
        stack_at=4,
        streaming=StreamingConfig(chunks=(2,), left_context=64),
    ),
    transducer=TransducerConfig(units=640, embedding_dim=640, joint_dim=640),
    vocabulary=4095,
)
# For a CPU and a small corpus: 6 blocks, 64 wide.
TINY = ModelConfig(
    encoder=EncoderConfig(num_blocks=6, dim=64, conv_kernel=15, norm_groups=8),
    vocabulary=64,
)

# Wu (2022), "Deep Sparse Conformer", sections 4.1 and 4.3. The sizes of table 1 come of 5,502
# tokens with the blank, where the text has 4,096.
DSC_12 = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=12,
        dim=512,
        num_heads=8,
        conv_kernel=31,
        attention="probsparse",
        residual="deep_norm_release",
        subsampling="valid",
        conv_bias=True,
        after_norm=True,
    ),
    decoder=DecoderConfig(num_blocks_left=3, num_blocks_right=3, num_heads=8, ff_units=2048),
    vocabulary=5501,
)
DSC_17 = replace(DSC_12, encoder=replace(DSC_12.encoder, num_blocks=17))
DSC_50 = replace(DSC_12, encoder=replace(DSC_12.encoder, num_blocks=50))
DSC_100 = replace(DSC_12, encoder=replace(DSC_12.encoder, num_blocks=100))
DSC_SMALL = replace(
    DSC_12,
    encoder=replace(DSC_12.encoder, num_blocks=16, dim=144, num_heads=4),
    decoder=DecoderConfig(num_blocks_left=1, num_blocks_right=1, num_heads=4, ff_units=576),
)
# The same size as DSC-12en, with neither of its changes: its table's Conformer.
CONFORMER_BI_12 = replace(
    DSC_12, encoder=replace(DSC_12.encoder, attention="dense", residual="pre_norm")
)
# WeNet's Transformer baseline: 12 blocks, 256 wide, and 6 decoder blocks from left to right.
TRANSFORMER_CTC_ATT = ModelConfig(
    family="transformer", decoder=DecoderConfig(num_blocks_left=6, num_heads=4, ff_units=2048)
)
# Majumdar et al. (2021), "Citrinet".
CITRINET_384 = ModelConfig(family="citrinet")

PRESETS = {
    "conformer_s": CONFORMER_S,
    "conformer_m": CONFORMER_M,
    "conformer_l": CONFORMER_L,
    "conformer_s_transducer": CONFORMER_S_TRANSDUCER,
    "conformer_m_transducer": CONFORMER_M_TRANSDUCER,
    "conformer_l_transducer": CONFORMER_L_TRANSDUCER,
    "streaming_conformer": STREAMING_CONFORMER,
    "tiny": TINY,
    "dsc_small": DSC_SMALL,
    "dsc_12": DSC_12,
    "dsc_17": DSC_17,
    "dsc_50": DSC_50,
    "dsc_100": DSC_100,
    "conformer_bi_12": CONFORMER_BI_12,
    "transformer_ctc_att": TRANSFORMER_CTC_ATT,
    "citrinet_384": CITRINET_384,
}
