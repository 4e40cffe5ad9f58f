from dataclasses import replace

import pytest
import yaml

from tfasr.configs.loading import from_mapping, to_mapping, to_yaml
from tfasr.configs.model import (
    CitrinetConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    StreamingConfig,
    TransducerConfig,
    TransformerConfig,
)
from tfasr.configs.presets import (
    CITRINET_384,
    CONFORMER_BI_12,
    CONFORMER_L,
    CONFORMER_M,
    CONFORMER_S,
    DSC_12,
    DSC_17,
    DSC_50,
    DSC_100,
    DSC_SMALL,
    PRESETS,
    STREAMING_CONFORMER,
    TRANSFORMER_CTC_ATT,
)

# What a streaming encoder needs besides.
STREAMING = {"conv_norm": "layer", "streaming": StreamingConfig(chunks=(4,), left_context=8)}


@pytest.mark.parametrize(
    ("preset", "table_1"),
    [(CONFORMER_S, (16, 144, 4)), (CONFORMER_M, (16, 256, 4)), (CONFORMER_L, (17, 512, 8))],
)
def test_presets_have_the_blocks_width_and_heads_of_table_1(preset, table_1):
    encoder = preset.encoder
    assert (encoder.num_blocks, encoder.dim, encoder.num_heads) == table_1
    assert (encoder.ff_factor, encoder.conv_kernel) == (4, 32)


def test_the_defaults_are_conformer_s():
    assert ModelConfig() == CONFORMER_S


def test_presets_are_found_by_name():
    assert PRESETS["conformer_l"] is CONFORMER_L


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_blocks": 0}, "num_blocks must be at least 1; got num_blocks=0"),
        ({"num_heads": 5}, "a multiple of num_heads; got dim=144, num_heads=5"),
        ({"dim": 9, "num_heads": 3}, "dim must be even .*; got dim=9, num_heads=3"),
        ({"norm_groups": 32}, "norm_groups must divide dim; got norm_groups=32, dim=144"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\); got dropout=1.0"),
        ({"dropout": -0.1}, "got dropout=-0.1"),
        ({"num_heads": 0}, "got dim=144, num_heads=0"),
        ({"norm_groups": 0}, "got norm_groups=0, dim=144"),
        ({"alpha_of": "release"}, "needs a deep_norm residual; got residual=pre_norm"),
        ({"recompute": True, "conv_norm": "batch"}, "recompute needs conv_norm=group, .*batch"),
        ({"conv_norm": "cumulative_group", "norm_groups": 32}, "got norm_groups=32, dim=144"),
        ({"stack_at": 16}, "from 0 to num_blocks - 1; got stack_at=16, num_blocks=16"),
        ({"stack_at": -1}, "got stack_at=-1, num_blocks=16"),
        ({"stack_at": 3, "stack_factor": 1}, "at least 2; got stack_factor=1"),
        ({**STREAMING, "stack_at": 3, "stack_factor": 3}, "got chunks=4, stack_factor=3"),
        (
            {
                **STREAMING,
                "stack_at": 3,
                "streaming": StreamingConfig(chunks=(4, 0), left_context=7),
            },
            "left_context must be a multiple of stack_factor; got left_context=7, stack_factor=2",
        ),
        ({**STREAMING, "conv_norm": "group"}, "needs conv_norm=layer or cumulative_group; got .*4"),
        ({**STREAMING, "attention": "probsparse"}, "needs attention=dense; got attention=prob"),
        ({**STREAMING, "subsampling": "valid"}, "needs subsampling=same; got subsampling=valid"),
    ],
)
def test_encoder_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**settings)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_normalisation_without_groups_asks_for_none(norm):
    assert EncoderConfig(conv_norm=norm, norm_groups=32).conv_norm == norm


def test_without_streaming_the_context_need_not_be_stacked():
    assert EncoderConfig(stack_at=3, stack_factor=3).streaming.left_context == 64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunks": (4, -2)}, "chunks must be at least 0; got chunks=-2"),
        ({"chunks": (4, 4)}, r"chunks must differ; got chunks=\(4, 4\)"),
        ({"left_context": -1}, "left_context must be at least 0; got left_context=-1"),
    ],
)
def test_streaming_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        StreamingConfig(**settings)


def test_by_default_nothing_streams():
    assert not any(p.encoder.streaming.chunks for p in PRESETS.values() if p != STREAMING_CONFORMER)


def test_the_streaming_preset_is_that_of_the_ambient_layers_paper():
    encoder = STREAMING_CONFORMER.encoder
    assert (encoder.num_blocks, encoder.order, encoder.stack_at) == (17, "convolution_first", 4)
    assert encoder.streaming.chunks


def test_a_citrinet_has_two_norms():
    stored = to_mapping(CITRINET_384)
    stored["citrinet"]["norm"] = "cumulative_group"
    with pytest.raises(ValueError, match="norm"):
        from_mapping(ModelConfig, stored, "preset")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_its_yaml(name):
    stored = yaml.safe_load(to_yaml(to_mapping(PRESETS[name])))
    assert from_mapping(ModelConfig, stored, "preset") == PRESETS[name]


@pytest.mark.parametrize(
    ("preset", "blocks"), [(DSC_12, 12), (DSC_17, 17), (DSC_50, 50), (DSC_100, 100)]
)
def test_deep_sparse_presets_have_the_settings_of_section_4_1(preset, blocks):
    encoder, decoder = preset.encoder, preset.decoder
    assert (encoder.num_blocks, encoder.dim, encoder.num_heads) == (blocks, 512, 8)
    assert (encoder.ff_factor * encoder.dim, encoder.conv_kernel) == (2048, 31)
    assert (encoder.attention, encoder.alpha_of) == ("probsparse", "paper")
    assert (decoder.num_blocks_left, decoder.num_blocks_right) == (3, 3)
    assert (decoder.num_heads, decoder.ff_units) == (8, 2048)


def test_the_small_deep_sparse_preset_is_a_conformer_s_with_two_decoders():
    small, conformer = DSC_SMALL.encoder, CONFORMER_S.encoder
    for name in ("num_blocks", "dim", "num_heads", "ff_factor"):
        assert getattr(small, name) == getattr(conformer, name)
    assert (DSC_SMALL.decoder.num_blocks_left, DSC_SMALL.decoder.num_blocks_right) == (1, 1)


def test_the_dense_twin_differs_in_attention_and_residual_alone():
    encoder = replace(DSC_12.encoder, attention="dense", residual="pre_norm")
    assert replace(DSC_12, encoder=encoder) == CONFORMER_BI_12


def test_the_transformer_preset_has_wenet_s_sizes():
    transformer, decoder = TRANSFORMER_CTC_ATT.transformer, TRANSFORMER_CTC_ATT.decoder
    assert (transformer.num_blocks, transformer.dim, transformer.num_heads) == (12, 256, 4)
    assert (transformer.ff_units, decoder.ff_units) == (2048, 2048)
    assert (decoder.num_blocks_left, decoder.num_blocks_right) == (6, 0)


def test_the_citrinet_preset_halves_the_frames_at_three_of_21_blocks():
    citrinet = CITRINET_384.citrinet
    assert [len(stage) for stage in citrinet.kernels] == [6, 7, 8]
    assert (citrinet.channels, citrinet.final_channels, citrinet.repeat) == (384, 640, 5)


@pytest.mark.parametrize(
    ("config", "dim", "blocks"),
    [(CONFORMER_M, 256, 16), (TRANSFORMER_CTC_ATT, 256, 12), (CITRINET_384, 640, 21)],
)
def test_width_and_blocks_are_those_of_the_family(config, dim, blocks):
    assert (config.dim, config.num_blocks) == (dim, blocks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransformerConfig(num_blocks=0), "got num_blocks=0"),
        (lambda: TransformerConfig(dim=9, num_heads=3), "got dim=9, num_heads=3"),
        (lambda: TransformerConfig(ff_units=0), "ff_units must be at least 1; got ff_units=0"),
        (lambda: TransformerConfig(dropout=1.0), "got dropout=1.0"),
        (lambda: CitrinetConfig(channels=12), "squeeze must divide channels; got squeeze=8"),
        (lambda: CitrinetConfig(final_channels=24), "got norm_groups=16, final_channels=24"),
        (lambda: CitrinetConfig(kernels=()), "must name a block in every stage"),
        (lambda: CitrinetConfig(kernels=((3,), ())), "must name a block in every stage"),
        (lambda: CitrinetConfig(kernels=((3, 4),)), "kernel sizes must be odd; got 4"),
        (lambda: CitrinetConfig(prologue_kernel=2), "kernel sizes must be odd; got 2"),
        (lambda: CitrinetConfig(repeat=0), "repeat must be at least 1; got repeat=0"),
        (lambda: CitrinetConfig(dropout=-0.1), "got dropout=-0.1"),
        (lambda: DecoderConfig(num_blocks_left=-1), "num_blocks_left must be at least 0"),
        (lambda: DecoderConfig(num_blocks_right=1), "needs one from left to right; got"),
        (lambda: DecoderConfig(num_heads=0), "num_heads must be at least 1; got num_heads=0"),
        (lambda: DecoderConfig(ff_units=0), "ff_units must be at least 1; got ff_units=0"),
        (lambda: DecoderConfig(dropout=1.0), "got dropout=1.0"),
        (
            lambda: ModelConfig(decoder=DecoderConfig(num_blocks_left=1, num_heads=5)),
            "multiple of decoder.num_heads; got 144, decoder.num_heads=5",
        ),
        (lambda: TransducerConfig(units=-1), "units must be at least 0; got units=-1"),
        (lambda: TransducerConfig(embedding_dim=0), "at least 1; got embedding_dim=0"),
        (lambda: TransducerConfig(joint_dim=0), "at least 1; got joint_dim=0"),
        (lambda: TransducerConfig(dropout=1.0), "got dropout=1.0"),
        (
            lambda: ModelConfig(
                decoder=DecoderConfig(num_blocks_left=1), transducer=TransducerConfig(units=8)
            ),
            "not both; got decoder.num_blocks_left=1, transducer.units=8",
        ),
        (lambda: ModelConfig(ctc=False), "without a transducer needs ctc=true; got ctc=false"),
        (
            lambda: replace(CONFORMER_M, family="citrinet"),
            "settings in encoder need family=conformer; got family=citrinet, .* go in citrinet",
        ),
        (
            lambda: ModelConfig(transformer=TransformerConfig(dim=64)),
            "settings in transformer need family=transformer; got family=conformer",
        ),
    ],
)
def test_settings_of_other_families_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
