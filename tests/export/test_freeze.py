from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import (
    CitrinetConfig,
    ModelConfig,
    StreamingConfig,
    TransformerConfig,
)
from tfasr.export.freeze import Freezing, dequantized, quantized
from tfasr.export.rebuilt import RebuiltWeight
from tfasr.models.building import build_model
from tfasr.models.initialization import initial_value, initialize
from tfasr.models.layout import Layout
from tfasr.models.streaming import StreamingEncoder

FORMS = ("constant", "seed", "int8")


@pytest.fixture
def model(tiny_run):
    return tiny_run.trained_model()


def freezing(form, *blocks, **settings):
    return Freezing(form=form, blocks=blocks, run_seed=5, **settings)


def graph_of(block, dim=16):
    function = tf.function(lambda x: block(x), autograph=False)
    return function.get_concrete_function(tf.TensorSpec([None, None, dim]))


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_of_a_frozen_block_captures_no_variable(model, form):
    freezing(form, 1).fix(model)
    assert len(graph_of(model.blocks[0]).variables) > 20
    assert len(graph_of(model.blocks[1]).variables) == 0


def test_a_frozen_block_has_no_variables_and_the_others_have_theirs(model):
    freezing("constant", 1).fix(model)
    blocks = [
        [v for module in (block, *block.submodules) for v in vars(module).values()]
        for block in model.blocks
    ]
    held = [sum(isinstance(value, tf.Variable) for value in values) for values in blocks]
    assert held[0] > 20
    assert held[1] == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_fixed_model_gives_what_the_settled_one_gave(model, noise, form):
    x, frames = noise(2, 40, 8), tf.constant([40, 21])
    frozen = freezing(form, 0, 1)
    frozen.settle(model)
    before = model(x, frames).numpy()
    frozen.fix(model)
    # A settled kernel of 8 bits is quantised again: its scale may differ in the last bit.
    np.testing.assert_allclose(model(x, frames), before, rtol=1e-5, atol=1e-5)


def test_constants_leave_the_model_as_it_was(model, noise):
    x, frames = noise(1, 40, 8), tf.constant([40])
    before = model(x, frames).numpy()
    frozen = freezing("constant", 0, 1)
    frozen.settle(model)
    frozen.fix(model)
    np.testing.assert_array_equal(model(x, frames), before)


@pytest.mark.parametrize("draw", [0, 1, 3])
def test_a_seed_stands_for_the_draws_of_the_study(model, draw):
    layout = Layout(model)
    others = {e.name: e.variable.numpy() for e in layout if e.block != 1}
    freezing("seed", 1, draw=draw).settle(model)
    for entry in layout:
        expected = others.get(entry.name)
        if expected is None:
            expected = initial_value(entry, 5, draw)
        np.testing.assert_array_equal(entry.variable, expected)


def test_kernels_are_rebuilt_from_the_seed_and_the_rest_is_no_constant(model):
    entries = {e.name: e for e in Layout(model).of_block(1)}
    resources = freezing("seed", 1).fix(model)
    kernels = [e for e in entries.values() if e.role.endswith("kernel")]
    assert len(resources) == len(kernels) > 8
    values = [tf.convert_to_tensor(resource).numpy() for resource in resources]
    for entry in kernels:
        drawn = initial_value(entry, 5, 1).numpy()
        assert any(np.array_equal(value, drawn) for value in values)
    constants = [n for n in graph_of(model.blocks[1]).graph.as_graph_def().node if n.op == "Const"]
    # Vectors of ones or zeros are held as one number.
    assert max(len(n.attr["value"].tensor.tensor_content) for n in constants) < 64


def test_moving_averages_are_kept_beside_a_seed(tiny_run, noise):
    config = tiny_run.model_config
    model = build_model(replace(config, encoder=replace(config.encoder, conv_norm="batch")))
    initialize(Layout(model), 0)
    mean = model.blocks[1].convolution.depthwise_norm.moving_mean
    mean.assign(noise(16))
    frozen = freezing("seed", 1)
    frozen.settle(model)
    np.testing.assert_array_equal(mean, noise(16))
    frozen.fix(model)
    np.testing.assert_array_equal(model.blocks[1].convolution.depthwise_norm.moving_mean, noise(16))


def test_eight_bits_by_hand():
    weights = np.array([[1.27, -0.5, 0.0], [-0.016, 0.25, 0.0]], np.float32)
    values, scales = quantized(weights)
    np.testing.assert_array_equal(values, [[127, -127, 0], [-2, 64, 0]])
    np.testing.assert_allclose(scales, [0.01, 0.5 / 127, 1])
    np.testing.assert_allclose(
        dequantized(values, scales), [[1.27, -0.5, 0], [-0.02, 0.25197, 0]], atol=1e-5
    )


def test_no_weight_of_eight_bits_is_off_by_more_than_half_a_step(noise):
    weights = noise(3, 8, 16)
    values, scales = quantized(weights)
    off = np.abs(dequantized(values, scales) - weights)
    # The division and the product round in float32.
    assert (off <= scales * (0.5 + 1e-5)).all()


def test_only_the_kernels_of_the_blocks_are_of_eight_bits(model):
    layout = Layout(model)
    before = {e.name: e.variable.numpy() for e in layout}
    freezing("int8", 1).settle(model)
    changed = {e.name for e in layout if not np.array_equal(e.variable, before[e.name])}
    assert changed == {e.name for e in layout.of_block(1) if e.role.endswith("kernel")}


def test_a_pruned_block_leaves_its_last_norm(model, noise):
    x, mask = noise(2, 9, 16), np.arange(9) < np.array([[9], [5]])
    expected = model.blocks[1].norm(x).numpy()
    encode = noise(1, 40, 8), tf.constant([40])
    before = model.encode(*encode)[0].numpy()
    freezing("pruned", 1).settle(model)
    np.testing.assert_array_equal(model.blocks[1](x, mask=mask), expected)
    assert {e.name for e in Layout(model).of_block(1)} == {
        "block_1/norm/gamma",
        "block_1/norm/beta",
    }
    subsampled, real = model.subsample(*encode)
    whole = model.blocks[1].norm(model.blocks[0](subsampled, mask=real))
    np.testing.assert_allclose(model.encode(*encode)[0], whole, rtol=1e-5, atol=1e-5)
    assert not np.allclose(before, whole)


def test_a_pruned_model_streams(tiny_run, noise):
    encoder = replace(
        tiny_run.model_config.encoder,
        streaming=StreamingConfig(chunks=(2,), left_context=4),
        conv_norm="layer",
    )
    model = build_model(replace(tiny_run.model_config, encoder=encoder))
    initialize(Layout(model), 0)
    freezing("pruned", 0).settle(model)
    x = tf.constant(noise(1, 16, 8))
    stream = StreamingEncoder(model, 2)
    state, parts = stream.start(1), []
    for start in (0, 8):
        part, _, state = stream.step(x[:, start : start + 8], tf.constant([8]), state)
        parts.append(part)
    whole, _ = model.encode(x, tf.constant([16]))
    np.testing.assert_allclose(tf.concat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_a_block_that_stacks_frames_is_not_pruned(tiny_run):
    config = tiny_run.model_config
    model = build_model(
        replace(config, encoder=replace(config.encoder, stack_at=1, stack_factor=2))
    )
    with pytest.raises(ValueError, match="block 1 joins 2 frames to one"):
        freezing("pruned", 0, 1).settle(model)


def test_a_citrinet_is_not_pruned():
    citrinet = CitrinetConfig(channels=16, kernels=((3, 3),), norm_groups=4)
    model = build_model(ModelConfig(family="citrinet", citrinet=citrinet))
    with pytest.raises(ValueError, match="block_1: the residual path of a Citrinet's block"):
        freezing("pruned", 1).settle(model)


def test_a_pruned_transformer_block_gives_what_it_is_given(noise):
    transformer = TransformerConfig(num_blocks=2, dim=16, num_heads=2, ff_units=16)
    model = build_model(ModelConfig(family="transformer", transformer=transformer))
    initialize(Layout(model), 0)
    freezing("pruned", 0, 1).settle(model)
    x, mask = model.subsample(noise(1, 40, 80), tf.constant([40]))
    np.testing.assert_allclose(
        model.encode(noise(1, 40, 80), tf.constant([40]))[0], model.final(x, mask=mask)
    )


def test_equal_names_hold_equal_weights():
    first, second = (
        RebuiltWeight("tests/equal", (2,), lambda: tf.constant([1.0, 2.0])) for _ in range(2)
    )
    np.testing.assert_array_equal(tf.convert_to_tensor(first), tf.convert_to_tensor(second))
    del first
    np.testing.assert_array_equal(tf.convert_to_tensor(second), [1, 2])
