from dataclasses import replace

import pytest
import yaml

from tfasr.configs.loading import from_mapping, to_mapping, to_yaml
from tfasr.configs.model import (
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
    TRANSFORMER_CTC_ATT,
    CitrinetConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    TransformerConfig,
)


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
    ],
)
def test_encoder_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**settings)


def test_batch_normalisation_asks_for_no_groups():
    assert EncoderConfig(conv_norm="batch", norm_groups=32).conv_norm == "batch"


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
