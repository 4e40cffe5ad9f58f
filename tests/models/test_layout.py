import keras
import pytest
import tensorflow as tf

from tfasr.configs.model import CONFORMER_L, CONFORMER_M, CONFORMER_S, EncoderConfig, ModelConfig
from tfasr.models.block import MODULES
from tfasr.models.conformer import build_model
from tfasr.models.layout import Entry, Layout, layout_without_weights, weights_hash

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2, dim=8, num_heads=2, ff_factor=3, conv_kernel=4, norm_groups=2
    ),
    num_mels=6,
    vocabulary=5,
)


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
    layout = layout_without_weights(preset)
    width, tokens = preset.encoder.dim, preset.vocabulary + 1
    assert {
        sum(entry.size for entry in layout.of_block(block)) for block in range(layout.num_blocks)
    } == {one_block}
    assert layout.block_parameters() == all_blocks
    assert layout.module_parameters()["subsampling"] == subsampling
    assert layout.module_parameters()["head"] == (width + 1) * tokens
    assert layout.parameters() == all_blocks + subsampling + (width + 1) * tokens


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


def test_inner_axes_lie_along_the_inner_units(layout):
    inner = {e.name: e.shape[e.inner_axis] for e in layout if e.inner_axis is not None}
    assert inner == {
        f"block_{block}/{module}/{role}": 24
        for block in (0, 1)
        for module in ("feed_forward_1", "feed_forward_2")
        for role in ("up/kernel", "up/bias", "down/kernel")
    }


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
