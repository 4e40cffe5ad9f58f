from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import DecoderConfig, EncoderConfig, ModelConfig
from tfasr.models.building import build_model
from tfasr.models.initialization import initial_value, initialize
from tfasr.models.layout import Layout
from tfasr.models.residual import deep_norm_factors

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2, dim=32, num_heads=2, ff_factor=4, conv_kernel=15, conv_norm="batch"
    ),
    num_mels=20,
    vocabulary=31,
)


@pytest.fixture(scope="module")
def layout():
    """With the values that Keras's own initializers gave."""
    return Layout(build_model(CONFIG))


def by_name(layout, name):
    return next(entry for entry in layout if entry.name == name)


def values(layout, **settings):
    return {entry.name: initial_value(entry, **settings).numpy() for entry in layout}


def is_kernel(name):
    return name.endswith("kernel")


def test_the_same_seed_gives_the_same_values(layout):
    one, again = values(layout, run_seed=3), values(layout, run_seed=3)
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])


@pytest.mark.parametrize("other", [{"run_seed": 3, "draw": 1}, {"run_seed": 4}])
def test_another_draw_or_seed_gives_other_kernels(layout, other):
    one, another = values(layout, run_seed=3), values(layout, **other)
    for name in filter(is_kernel, one):
        assert np.mean(one[name] == another[name]) < 0.01


def test_kernels_of_one_shape_differ(layout):
    kernels = [
        initial_value(by_name(layout, name), 0)
        for name in (
            "block_0/attention/query/kernel",
            "block_0/attention/key/kernel",
            "block_1/attention/query/kernel",
        )
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef(np.ravel(kernels[one]), np.ravel(kernels[other]))[0, 1]
        # Five standard errors over 1024 values.
        assert abs(correlation) < 5 / 32


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("subsampling/conv_1/kernel", (6 / (9 * (1 + 32))) ** 0.5),
        ("subsampling/conv_2/kernel", (6 / (9 * (32 + 32))) ** 0.5),
        ("subsampling/project/kernel", (6 / (5 * 32 + 32)) ** 0.5),
        ("block_0/feed_forward_1/up/kernel", (6 / (32 + 128)) ** 0.5),
        ("block_1/feed_forward_2/down/kernel", (6 / (128 + 32)) ** 0.5),
        ("block_0/attention/query/kernel", (6 / (32 + 32)) ** 0.5),
        ("block_0/attention/position/kernel", (6 / (32 + 32)) ** 0.5),
        ("block_0/convolution/pointwise_in/kernel", (6 / (32 + 64)) ** 0.5),
        ("block_1/convolution/depthwise/kernel", (3 / 15) ** 0.5),
        ("head/kernel", (6 / (32 + 32)) ** 0.5),
    ],
)
def test_first_weights_have_the_distribution_of_the_layer_s_own_initializer(layout, name, limit):
    entry = by_name(layout, name)
    for value in (entry.variable.numpy(), initial_value(entry, 0).numpy()):
        assert value.shape == entry.shape
        # Of 288 uniform draws and more, the largest is all but surely this near the limit.
        assert 0.9 * limit < np.abs(value).max() <= limit * (1 + 1e-6)
        # Six standard errors of a uniform distribution's deviation.
        error = (0.2 / value.size) ** 0.5
        np.testing.assert_allclose(value.std(), limit / 3**0.5, rtol=6 * error)


def test_everything_else_starts_as_the_layer_s_own_initializer_does(layout):
    for entry in layout:
        if not is_kernel(entry.name):
            np.testing.assert_array_equal(initial_value(entry, 0), entry.variable, entry.name)


def test_initialize_assigns_the_values_of_its_entries_only():
    layout = Layout(build_model(CONFIG))
    before = {entry.name: entry.variable.numpy() for entry in layout}
    initialize(layout.of_block(1), 3, draw=2)
    for entry in layout:
        expected = initial_value(entry, 3, 2) if entry.block == 1 else before[entry.name]
        np.testing.assert_array_equal(entry.variable, expected)


def test_a_block_starts_the_same_in_a_model_of_more_blocks(layout):
    larger = ModelConfig(
        encoder=EncoderConfig(
            num_blocks=3, dim=32, num_heads=2, ff_factor=4, conv_kernel=15, conv_norm="batch"
        ),
        num_mels=20,
        vocabulary=31,
    )
    name = "block_1/feed_forward_1/up/kernel"
    entry = by_name(Layout(build_model(larger)), name)
    np.testing.assert_array_equal(initial_value(entry, 0), initial_value(by_name(layout, name), 0))


def test_a_graph_draws_as_eager_mode_does(layout):
    entry = by_name(layout, "head/kernel")
    graph = tf.function(lambda: initial_value(entry, 5))
    np.testing.assert_array_equal(graph(), initial_value(entry, 5))


@pytest.fixture(scope="module")
def deep_layout():
    encoder = replace(CONFIG.encoder, residual="deep_norm", conv_bias=True)
    decoder = DecoderConfig(num_blocks_left=3, num_heads=2, ff_units=64)
    return Layout(build_model(replace(CONFIG, encoder=encoder, decoder=decoder)))


@pytest.mark.parametrize(
    ("name", "scaled"),
    [
        ("block_0/feed_forward_1/up/kernel", True),
        ("block_1/feed_forward_2/down/kernel", True),
        ("block_0/attention/value/kernel", True),
        ("block_1/attention/output/kernel", True),
        ("block_0/attention/query/kernel", False),
        ("block_1/attention/key/kernel", False),
        ("block_0/convolution/pointwise_in/kernel", False),
        ("left_decoder/block_0/self_attention/value/kernel", False),
    ],
)
def test_deep_norm_starts_projections_with_a_gain_of_beta(deep_layout, name, scaled):
    entry = by_name(deep_layout, name)
    beta = deep_norm_factors(2, 3)[1]
    limit = (beta if scaled else 1.0) * (6 / sum(entry.shape)) ** 0.5
    value = initial_value(entry, 0).numpy()
    assert 0.9 * limit < np.abs(value).max() <= limit * (1 + 1e-6)


def test_embeddings_are_normal_with_unit_length(deep_layout):
    entry = by_name(deep_layout, "left_decoder/embeddings")
    for value in (entry.variable.numpy(), initial_value(entry, 0).numpy()):
        # Of 32 x 32 values; five standard errors.
        np.testing.assert_allclose(value.std(), 32**-0.5, rtol=5 / 2048**0.5)
        assert np.abs(value).max() > 2.5 * 32**-0.5


def test_a_bias_of_the_depthwise_convolution_starts_at_zero(deep_layout):
    entry = by_name(deep_layout, "block_0/convolution/depthwise/bias")
    np.testing.assert_array_equal(initial_value(entry, 0), np.zeros(32))
