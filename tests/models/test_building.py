from dataclasses import replace

import pytest

from tfasr.configs.model import (
    CitrinetConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    StreamingConfig,
    TransformerConfig,
)
from tfasr.models.building import build_model, full_units
from tfasr.models.residual import deep_norm_factors

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2, dim=8, num_heads=2, ff_factor=2, conv_kernel=4, norm_groups=2
    ),
    num_mels=7,
    vocabulary=5,
)
DEEP = replace(
    CONFIG,
    encoder=replace(CONFIG.encoder, residual="deep_norm_release"),
    decoder=DecoderConfig(num_blocks_left=2, num_blocks_right=1, num_heads=2, ff_units=3),
)
STREAMING = replace(
    CONFIG,
    encoder=replace(
        CONFIG.encoder,
        conv_norm="cumulative_group",
        order="convolution_first",
        stack_at=1,
        stack_factor=3,
        streaming=StreamingConfig(chunks=(6, 0), left_context=9),
    ),
)
TRANSFORMER = ModelConfig(
    family="transformer",
    transformer=TransformerConfig(num_blocks=2, dim=8, num_heads=2, ff_units=12),
    num_mels=7,
    vocabulary=5,
)
CITRINET = ModelConfig(family="citrinet", citrinet=CitrinetConfig(kernels=((3, 5), (3,), (5,))))


def test_nothing_is_dropped_by_default():
    modules = {"feed_forward_1": 16, "attention": 2, "convolution": 2, "feed_forward_2": 16}
    assert full_units(CONFIG) == [modules, modules]
    model = build_model(CONFIG)
    assert [block.settings["ff_units"] for block in model.blocks] == [(16, 16), (16, 16)]


def test_a_client_s_model_has_the_units_it_is_given():
    units = [{"feed_forward_1": 3, "feed_forward_2": 4}, {"attention": 1, "convolution": 1}]
    one, other = build_model(CONFIG, units).blocks
    assert one.feed_forward_1.up.kernel.shape == (8, 3)
    assert one.feed_forward_2.up.kernel.shape == (8, 4)
    assert one.attention.query_dense.kernel.shape == (8, 8)
    assert other.feed_forward_1.up.kernel.shape == (8, 16)
    assert other.attention.query_dense.kernel.shape == (8, 4)
    assert other.attention.output_dense.kernel.shape == (4, 8)
    assert other.attention.content_bias.shape == (1, 4)
    assert other.convolution.pointwise_in.kernel.shape == (8, 8)
    assert other.convolution.depthwise.kernel.shape == (4, 4)
    assert other.convolution.depthwise_norm.groups == 1


def test_units_that_do_not_name_every_block_are_named():
    with pytest.raises(ValueError, match="must name every block; got 1 for num_blocks=2"):
        build_model(CONFIG, [{"feed_forward_1": 3}])


@pytest.mark.parametrize(("module", "count", "most"), [("attention", 3, 2), ("norm", 1, 0)])
def test_units_that_a_module_does_not_have_are_named(module, count, most):
    told = f"units of block 1's {module} must be between 1 and {most}; got {count}"
    with pytest.raises(ValueError, match=told):
        build_model(CONFIG, [{}, {module: count}])


def test_a_transformer_s_blocks_have_one_number_of_units_and_a_citrinet_s_none():
    assert full_units(TRANSFORMER) == [{"feed_forward": 12}] * 2
    assert full_units(CITRINET) == [{}] * 4
    blocks = build_model(TRANSFORMER, [{"feed_forward": 3}, {"feed_forward": 4}]).blocks
    assert [block.feed_forward.up.kernel.shape for block in blocks] == [(8, 3), (8, 4)]


def test_the_first_feed_forward_of_a_stacking_block_has_more_units():
    assert [units["feed_forward_1"] for units in full_units(STREAMING)] == [16, 48]
    assert [units["feed_forward_2"] for units in full_units(STREAMING)] == [16, 16]


def test_by_default_there_is_no_decoder():
    assert build_model(CONFIG).decoder is None


@pytest.mark.parametrize("alpha_of", ["paper", "release"])
def test_deep_norm_counts_the_blocks_of_encoder_and_decoder(alpha_of):
    config = replace(DEEP, encoder=replace(DEEP.encoder, alpha_of=alpha_of))
    settings = build_model(config).blocks[0].settings
    assert (settings["alpha"], settings["beta"]) == deep_norm_factors(2, 2, alpha_of)


def test_streaming_settings_reach_the_model_and_its_blocks():
    model = build_model(STREAMING)
    assert (model.chunks, model.left_context) == ((6, 0), 9)
    assert [block.stride for block in model.blocks] == [1, 3]
    for block in model.blocks:
        assert block.settings["order"] == "convolution_first"
        assert block.convolution.depthwise.padding == "causal"


def test_a_norm_of_the_past_alone_does_not_make_a_convolution_causal():
    encoder = replace(CONFIG.encoder, conv_norm="cumulative_group")
    model = build_model(replace(CONFIG, encoder=encoder))
    assert model.chunks == ()
    assert {block.convolution.depthwise.padding for block in model.blocks} == {"same"}


def test_a_client_s_stacking_block_has_fewer_units():
    blocks = build_model(STREAMING, [{}, {"feed_forward_1": 5, "feed_forward_2": 6}]).blocks
    assert blocks[1].feed_forward_1.up.kernel.shape == (24, 5)
    assert blocks[1].feed_forward_1.down.kernel.shape == (5, 8)
    assert blocks[1].feed_forward_2.up.kernel.shape == (8, 6)
