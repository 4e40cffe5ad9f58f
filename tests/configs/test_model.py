import pytest

from tfasr.configs.model import (
    CONFORMER_L,
    CONFORMER_M,
    CONFORMER_S,
    PRESETS,
    EncoderConfig,
    ModelConfig,
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
    ],
)
def test_encoder_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**settings)


def test_batch_normalisation_asks_for_no_groups():
    assert EncoderConfig(conv_norm="batch", norm_groups=32).conv_norm == "batch"
