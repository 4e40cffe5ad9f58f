import functools
from dataclasses import replace

import keras
import pytest
import tensorflow as tf

from tfasr.configs.model import (
    CitrinetConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
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
    STREAMING_CONFORMER,
    TRANSFORMER_CTC_ATT,
)
from tfasr.models.attention import OUTPUT_GAIN
from tfasr.models.block import MODULES
from tfasr.models.building import build_model
from tfasr.models.layout import (
    Entry,
    Layout,
    layout_without_weights,
    release_parameters,
    weights_hash,
)

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2, dim=8, num_heads=2, ff_factor=3, conv_kernel=4, norm_groups=2
    ),
    num_mels=6,
    vocabulary=5,
)


layout_of = functools.cache(layout_without_weights)


@pytest.fixture(scope="module")
def layout():
    return Layout(build_model(CONFIG))


@pytest.mark.parametrize(
    ("preset", "one_block", "all_blocks", "subsampling"),
    [
        (CONFORMER_S, 506_736, 8_107_776, 603_072),
        (CONFORMER_M, 1_588_992, 25_423_872, 1_903_616),
        (CONFORMER_L, 6_323_712, 107_503_104, 7_608_320),
    ],
)
def test_presets_have_the_parameters_of_table_1(preset, one_block, all_blocks, subsampling):
    # Laying out all blocks of the three would take ten seconds, and they are alike.
    few = replace(preset, encoder=replace(preset.encoder, num_blocks=2))
    layout, blocks = layout_without_weights(few), preset.encoder.num_blocks
    width, tokens = preset.encoder.dim, preset.vocabulary + 1
    assert [sum(entry.size for entry in layout.of_block(block)) for block in (0, 1)] == [
        one_block,
        one_block,
    ]
    assert blocks * one_block == all_blocks
    assert layout.block_parameters() == 2 * one_block
    assert layout.module_parameters()["subsampling"] == subsampling
    assert layout.module_parameters()["head"] == (width + 1) * tokens
    assert layout.parameters() == 2 * one_block + subsampling + (width + 1) * tokens


# Wu (2022), "Deep Sparse Conformer", table 1: parameters with the blank and 5,501 tokens, with
# 4,095 tokens, and with the release's unused projections.
@pytest.mark.parametrize(
    ("preset", "total", "total_4096", "release"),
    [
        (DSC_SMALL, 13_337_946, 12_321_408, 14_170_266),
        (DSC_12, 122_559_610, 118_956_032, 135_154_810),
        pytest.param(
            CONFORMER_BI_12, 122_559_610, 118_956_032, 135_154_810, marks=pytest.mark.slow
        ),
        pytest.param(DSC_17, 154_178_170, 150_574_592, 169_397_370, marks=pytest.mark.slow),
        pytest.param(DSC_50, 362_860_666, 359_257_088, 395_398_266, marks=pytest.mark.slow),
        pytest.param(DSC_100, 679_046_266, 675_442_688, 737_823_866, marks=pytest.mark.slow),
    ],
)
def test_deep_sparse_presets_have_the_parameters_of_table_1(preset, total, total_4096, release):
    layout = layout_of(preset)
    assert layout.parameters() == total
    # A token is a column of three outputs with its bias, and a row of two embeddings.
    token = 3 * (preset.dim + 1) + 2 * preset.dim
    assert total - token * (5502 - 4096) == total_4096
    assert release_parameters(layout, preset) == release


def test_deep_sparse_presets_differ_by_blocks_of_6_323_712_parameters():
    sizes = {12: 122_559_610, 17: 154_178_170, 50: 362_860_666, 100: 679_046_266}
    for preset in (DSC_12, DSC_17, DSC_50, DSC_100):
        one = replace(preset, encoder=replace(preset.encoder, num_blocks=1))
        assert one == replace(DSC_12, encoder=replace(DSC_12.encoder, num_blocks=1))
        blocks = preset.num_blocks
        assert sizes[blocks] == sizes[12] + (blocks - 12) * 6_323_712
    layout = layout_without_weights(one)
    assert layout.block_parameters() == 6_323_712
    assert layout.parameters() == sizes[12] - 11 * 6_323_712


def test_a_deep_sparse_preset_is_made_of_the_parts_that_were_counted():
    counts = layout_of(DSC_SMALL).module_parameters()
    assert counts["subsampling"] == 9 * 144 + 144 + 9 * 144**2 + 144 + 19 * 144**2 + 144
    assert counts["after_norm"] == 2 * 144
    assert counts["head"] == 145 * 5502
    # A block: two attentions, a feed-forward and three norms; a last norm; the tokens.
    decoder_block = 8 * 144 * 145 + (144 * 577 + 576 * 145) - 144 + 144 + 6 * 144
    assert counts["left_decoder"] == decoder_block + 2 * 144 + (2 * 144 + 1) * 5502
    assert counts["right_decoder"] == counts["left_decoder"]


def test_the_streaming_conformer_has_the_parameters_of_its_parts():
    # Five blocks, for the others are like these; the fifth stacks two frames.
    few = replace(STREAMING_CONFORMER, encoder=replace(STREAMING_CONFORMER.encoder, num_blocks=5))
    layout = layout_without_weights(few)
    sizes = [sum(entry.size for entry in layout.of_block(block)) for block in range(5)]
    one = 24 * 512**2 + (31 + 15) * 512
    # Twice the width and the units of a feed-forward module, and the projection beside it.
    stacking = one + (16 * 512**2 + 6 * 512) + (2 * 512**2 + 512)
    assert sizes == [one] * 4 + [stacking]
    assert (one, stacking) == (6_315_008, 11_037_184)
    # "Ambient layers", section 4, and Guliani et al. (2022), table 1: 113M of 137M.
    assert 16 * one + stacking == 112_077_312
    assert 16 * one + stacking + layout.parameters() - sum(sizes) == 128_950_528


def test_a_stacking_block_has_a_module_more():
    encoder = replace(CONFIG.encoder, stack_at=1, order="convolution_first")
    layout = layout_without_weights(replace(CONFIG, encoder=encoder))
    assert [e.name for e in layout.of_block(1, "stacking")] == [
        "block_1/stacking/kernel",
        "block_1/stacking/bias",
    ]
    assert not layout.of_block(0, "stacking")
    inner = [
        entry.shape[entry.unit_axis.axis]
        for module in ("feed_forward_1", "feed_forward_2")
        for entry in layout.of_block(1, module)
        if entry.unit_axis
    ]
    assert inner == [48] * 3 + [24] * 3


def test_a_transformer_preset_has_the_parameters_of_its_parts():
    layout = layout_without_weights(TRANSFORMER_CTC_ATT)
    counts = layout.module_parameters()
    assert layout.modules == ("attention", "feed_forward")
    # Queries, keys, values and outputs, positions without a bias, two position biases, a norm.
    assert counts["attention"] == 12 * (4 * 256 * 257 + 256**2 + 2 * 256 + 2 * 256)
    assert counts["feed_forward"] == 12 * (256 * 2048 + 2048 + 2048 * 256 + 256 + 2 * 256)
    assert counts["subsampling"] == 9 * 256 + 256 + 9 * 256**2 + 256 + 19 * 256**2 + 256
    assert "right_decoder" not in counts


def test_citrinet_384_has_the_parameters_that_its_authors_print():
    layout = layout_without_weights(CITRINET_384)
    outside_head = layout.parameters() - layout.module_parameters()["head"]
    assert outside_head == 20_815_504
    # 21.0M with LibriSpeech's 256 tokens, and 22.7M, as Wu (2022) prints, with 3,000.
    assert outside_head + 641 * 257 == 20_980_241
    assert outside_head + 641 * 3001 == 22_739_145


def test_the_release_has_conformers_only(layout):
    with pytest.raises(ValueError, match="Conformers only; got family=citrinet"):
        release_parameters(layout, CITRINET_384)


def test_blocks_of_other_families_are_laid_out_by_their_modules():
    transformer = TransformerConfig(num_blocks=2, dim=8, num_heads=2, ff_units=6)
    layout = layout_without_weights(ModelConfig(family="transformer", transformer=transformer))
    assert layout.num_blocks == 2
    assert sum(e.unit_axis is not None for e in layout.of_block(1, "feed_forward")) == 3
    citrinet = CitrinetConfig(
        channels=8, final_channels=4, kernels=((3, 5),), repeat=2, squeeze=2, norm="batch"
    )
    config = ModelConfig(family="citrinet", citrinet=citrinet)
    counts = layout_without_weights(config).module_parameters()
    inside = ["convolution_1", "convolution_2", "squeeze", "residual"]
    assert sorted(counts) == sorted(["prologue", *inside, "epilogue", "head"])
    assert counts["squeeze"] == 2 * (8 * 4 + 4 * 8)


def test_norms_after_each_sum_are_modules_of_their_own():
    encoder = replace(CONFIG.encoder, residual="deep_norm")
    layout = layout_without_weights(replace(CONFIG, encoder=encoder))
    assert layout.modules == (*MODULES[:-1], "norm_1", "norm_2", "norm_3", "norm_4")
    assert [entry.name for entry in layout.of_block(0, "norm_2")] == [
        "block_0/norm_2/gamma",
        "block_0/norm_2/beta",
    ]


def test_decoders_stand_outside_the_blocks():
    decoder = DecoderConfig(num_blocks_left=2, num_blocks_right=1, num_heads=2, ff_units=4)
    layout = layout_without_weights(replace(CONFIG, decoder=decoder))
    assert layout.num_blocks == 2
    names = {entry.name for entry in layout if entry.block is None}
    assert "left_decoder/block_1/self_attention/query/kernel" in names
    assert "right_decoder/embeddings" in names


def test_entries_know_the_gain_of_their_first_weights(layout):
    gains = {entry.name: entry.gain for entry in layout if entry.gain != 1}
    assert gains == {f"block_{block}/attention/output/kernel": OUTPUT_GAIN for block in (0, 1)}


def test_a_block_has_24_d_squared_and_31_plus_k_d_parameters():
    config = ModelConfig(
        encoder=EncoderConfig(num_blocks=1, dim=16, num_heads=2, conv_kernel=5, norm_groups=2),
        num_mels=6,
        vocabulary=5,
    )
    assert layout_without_weights(config).block_parameters() == 24 * 16**2 + (31 + 5) * 16


def test_every_variable_has_a_place(layout):
    assert {entry.block for entry in layout} == {None, 0, 1}
    assert {entry.module for entry in layout if entry.block is not None} == set(MODULES)
    assert {entry.module for entry in layout if entry.block is None} == {"subsampling", "head"}


def test_names_are_unique_paths(layout):
    names = [entry.name for entry in layout]
    assert len(set(names)) == len(names)
    assert {
        "subsampling/conv_1/kernel",
        "block_0/feed_forward_1/up/kernel",
        "block_1/attention/position_bias",
        "block_1/convolution/depthwise/kernel",
        "block_1/norm/gamma",
        "head/bias",
    } <= set(names)


def test_entries_are_in_the_order_of_the_model_s_variables():
    model = build_model(CONFIG)
    assert [id(e.variable) for e in Layout(model)] == [id(v) for v in model.variables]


def test_blocks_have_the_same_variables(layout):
    one, other = (
        [(entry.module, entry.role, entry.shape) for entry in layout.of_block(block)]
        for block in (0, 1)
    )
    assert one == other


def test_the_modules_of_a_block_make_up_the_block(layout):
    by_module = [entry.name for module in MODULES for entry in layout.of_block(1, module)]
    assert sorted(by_module) == sorted(entry.name for entry in layout.of_block(1))


def test_a_module_of_a_block_is_that_module_alone(layout):
    roles = {entry.role for entry in layout.of_block(0, "feed_forward_2")}
    kernels = {"up/kernel", "up/bias", "down/kernel", "down/bias"}
    assert roles == kernels | {"norm/gamma", "norm/beta"}


def test_the_block_s_norm_is_not_that_of_its_modules(layout):
    names = [entry.name for entry in layout.of_block(0, "norm")]
    assert names == ["block_0/norm/gamma", "block_0/norm/beta"]


def test_a_client_s_model_is_smaller_along_the_axes_of_its_units_and_no_others(layout):
    # 24 units, 2 heads, 2 groups of channels: half of each.
    half = {"feed_forward_1": 12, "attention": 1, "convolution": 1, "feed_forward_2": 12}
    for entry, part in zip(layout, Layout(build_model(CONFIG, [half, half])), strict=True):
        expected = list(entry.shape)
        if entry.unit_axis:
            expected[entry.unit_axis.axis] //= 2
        assert part.shape == tuple(expected), entry.name


def test_modules_are_counted_over_all_blocks(layout):
    counts = layout.module_parameters()
    # Two blocks of two layer norms' weights, 8 to 24 and back.
    assert counts["feed_forward_1"] == 2 * (2 * 8 + 9 * 24 + 25 * 8)
    assert counts["norm"] == 2 * 2 * 8
    assert list(counts) == ["subsampling", *MODULES, "head"]
    assert sum(counts.values()) == layout.parameters()


def test_moving_averages_are_counted_but_not_trainable():
    encoder = EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=4, conv_norm="batch")
    layout = layout_without_weights(ModelConfig(encoder=encoder, num_mels=6, vocabulary=5))
    trainable = {entry.name for entry in layout.trainable}
    assert [entry.role for entry in layout if entry.name not in trainable] == [
        "depthwise_norm/moving_mean",
        "depthwise_norm/moving_variance",
    ]
    assert layout.block_parameters() == 24 * 8**2 + (31 + 4) * 8 + 2 * 8


def test_a_layout_without_weights_is_that_of_the_model(layout):
    weightless = layout_without_weights(CONFIG)
    assert [(e.name, e.shape) for e in weightless] == [(e.name, e.shape) for e in layout]


def test_a_second_model_has_the_same_names(layout):
    assert [e.name for e in Layout(build_model(CONFIG))] == [e.name for e in layout]


def test_a_variable_without_a_place_is_named():
    layer = keras.layers.Layer()
    layer.add_weight(name="stray")
    with pytest.raises(ValueError, match="must be named by its module; got stray:0"):
        Layout(layer)


def test_an_entry_is_found_among_entries(layout):
    block = layout.of_block(1)
    assert block[-1] in block


def test_an_entry_outside_the_blocks_is_named_by_its_module():
    entry = Entry(tf.zeros([2, 3]), None, "head", "kernel")
    assert (entry.name, entry.shape, entry.size) == ("head/kernel", (2, 3), 6)


def test_the_hash_is_that_of_the_values():
    one, other = Layout(build_model(CONFIG)), Layout(build_model(CONFIG))
    for mine, yours in zip(one, other, strict=True):
        yours.variable.assign(mine.variable)
    assert weights_hash(one) == weights_hash(other)
    other.entries[-1].variable.assign_add(tf.fill(other.entries[-1].shape, 1e-6))
    assert weights_hash(one) != weights_hash(other)
