import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.attention import ChunkedAttention, RelativeAttention, chunk_mask
from tfasr.models.block import MODULES, ConformerBlock
from tfasr.models.sparse_attention import ProbSparseAttention


def test_output_by_hand():
    layer = ConformerBlock(2, (4, 4), 3, norm_groups=2)
    layer.build(tf.TensorShape([None, None, 4]))
    for weight in layer.weights:
        weight.assign(tf.zeros_like(weight))
    layer.norm.gamma.assign(tf.ones([4]))
    # Each module adds its last bias alone, the feed-forward modules half of it: 1, 2, 3, 4,
    # with mean 5/2 and variance 5/4.
    layer.feed_forward_1.down.bias.assign([2.0, 0.0, 0.0, 0.0])
    layer.attention.output_dense.bias.assign([0.0, 2.0, 0.0, 0.0])
    layer.convolution.pointwise_out.bias.assign([0.0, 0.0, 3.0, 0.0])
    layer.feed_forward_2.down.bias.assign([0.0, 0.0, 0.0, 8.0])
    expected = (np.array([1, 2, 3, 4]) - 2.5) / 1.25**0.5
    np.testing.assert_allclose(layer(tf.zeros([1, 1, 4]))[0, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("conv_norm", ["group", "batch"])
def test_output_is_equation_1(noise, with_noise_weights, conv_norm):
    layer = with_noise_weights(ConformerBlock(2, (12, 6), 3, conv_norm, 4), (None, None, 8))
    x, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([4, 6], 6)
    halved = x + layer.feed_forward_1(x) / 2
    attended = halved + layer.attention(halved, mask=mask)
    convolved = attended + layer.convolution(attended, mask=mask)
    expected = layer.norm(convolved + layer.feed_forward_2(convolved) / 2)
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-5)


def test_the_convolution_may_come_first(noise, with_noise_weights):
    layer = ConformerBlock(2, (12, 6), 3, norm_groups=4, order="convolution_first")
    layer = with_noise_weights(layer, (None, None, 8))
    x, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([4, 6], 6)
    halved = x + layer.feed_forward_1(x) / 2
    convolved = halved + layer.convolution(halved, mask=mask)
    attended = convolved + layer.attention(convolved, mask=mask)
    expected = layer.norm(attended + layer.feed_forward_2(attended) / 2)
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-5)


def test_either_order_has_the_same_variables():
    named = []
    for order in ("attention_first", "convolution_first"):
        block = ConformerBlock(2, (12, 6), 3, norm_groups=4, order=order)
        block.build(tf.TensorShape([None, None, 8]))
        named.append(sorted((weight.name, weight.shape) for weight in block.weights))
    assert named[0] == named[1]


def test_stacked_frames_are_projected_beside_the_first_feed_forward(noise, with_noise_weights):
    layer = ConformerBlock(2, (12, 6), 3, norm_groups=4, stack_factor=2)
    layer = with_noise_weights(layer, (None, None, 8))
    x, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([4, 6], 6)
    shorter = tf.sequence_mask([2, 3], 3)
    wide = tf.reshape(tf.where(mask[:, :, None], x, 0.0), [2, 3, 16])
    halved = layer.stacking(wide) + layer.feed_forward_1(wide) / 2
    attended = halved + layer.attention(halved, mask=shorter)
    convolved = attended + layer.convolution(attended, mask=shorter)
    expected = layer.norm(convolved + layer.feed_forward_2(convolved) / 2)
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-5)


def test_a_group_with_one_real_frame_is_real(noise):
    layer = ConformerBlock(2, (12, 6), 3, norm_groups=4, stack_factor=3)
    mask = tf.sequence_mask([0, 1, 3, 4, 7], 7)
    shorter = layer.compute_mask(noise(5, 7, 8), mask)
    assert tf.reduce_sum(tf.cast(shorter, tf.int32), 1).numpy().tolist() == [0, 1, 1, 2, 3]
    assert layer.compute_mask(noise(5, 7, 8)) is None


def test_a_causal_block_hears_no_later_chunk(noise, with_noise_weights):
    layer = ConformerBlock(2, (12, 6), 3, "cumulative_group", 2, conv_padding="causal")
    layer = with_noise_weights(layer, (None, None, 8))
    x, seen = tf.constant(noise(1, 6, 8)), chunk_mask(tf.constant(6), tf.constant(2), 4)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x, attention_mask=seen)[:, 2]
    heard = np.any(tape.gradient(out, x)[0], -1)
    assert heard.tolist() == [True] * 4 + [False] * 2


def test_only_a_causal_block_s_attention_is_chunked():
    kinds = [
        type(ConformerBlock(2, (4, 4), 3, conv_padding=padding).attention)
        for padding in ("same", "causal")
    ]
    assert kinds == [RelativeAttention, ChunkedAttention]


def test_the_feed_forward_modules_may_differ_in_units():
    layer = ConformerBlock(2, (12, 6), 3, norm_groups=4)
    layer.build(tf.TensorShape([None, None, 8]))
    assert layer.feed_forward_1.up.kernel.shape == (8, 12)
    assert layer.feed_forward_2.up.kernel.shape == (8, 6)


def test_modules_are_named_as_they_are():
    layer = ConformerBlock(2, (4, 4), 3)
    assert [getattr(layer, module).name for module in MODULES] == list(MODULES)


def test_the_rate_of_dropout_reaches_every_module():
    layer = ConformerBlock(2, (4, 4), 3, dropout=0.3)
    rates = [getattr(layer, module).dropout for module in MODULES[:-1]]
    assert rates == [0.3] * 4


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = ConformerBlock(2, (12, 6), 3, norm_groups=4, dropout=0.3), noise(1, 6, 8)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide D; got num_heads=3, D=8"),
        ({"num_heads": 2, "norm_groups": 3}, "groups must divide C; got groups=3, C=8"),
    ],
)
def test_settings_that_do_not_divide_the_width_are_named(noise, settings, message):
    with pytest.raises(ValueError, match=message):
        ConformerBlock(ff_units=(4, 4), conv_kernel=3, **settings)(noise(1, 2, 8))


# Where each form puts norms: before a module, after each sum, after the last; and its alpha.
@pytest.mark.parametrize(
    ("residual", "before", "after", "last", "alpha"),
    [
        ("pre_norm", True, False, True, 1.0),
        ("post_norm", False, True, False, 1.0),
        ("deep_norm", False, True, False, 1.5),
        ("deep_norm_mixture", True, True, False, 1.5),
        ("deep_norm_release", True, False, True, 1.5),
    ],
)
def test_residuals_are_joined_as_their_equations_say(
    noise, with_noise_weights, residual, before, after, last, alpha
):
    block = ConformerBlock(2, (12, 6), 3, norm_groups=4, residual=residual, alpha=alpha)
    block = with_noise_weights(block, (None, None, 8))
    x, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([4, 6], 6)

    def normalised(layer, y):
        mean, variance = tf.nn.moments(y, [-1], keepdims=True)
        return (y - mean) / tf.sqrt(variance + 1e-5) * layer.gamma + layer.beta

    y = x
    for place, module in enumerate(MODULES[:-1], start=1):
        layer = getattr(block, module)
        given = normalised(layer.norm, y) if before else y
        layer.norm, kept = tf.identity, layer.norm
        masked = {"mask": mask} if module in ("attention", "convolution") else {}
        f = layer(given, **masked)
        layer.norm = kept
        y = alpha * y + (f / 2 if "feed_forward" in module else f)
        y = normalised(getattr(block, f"norm_{place}"), y) if after else y
    expected = normalised(block.norm, y) if last else y
    np.testing.assert_allclose(block(x, mask=mask), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("residual", "norms"),
    [("pre_norm", 5), ("post_norm", 4), ("deep_norm", 4), ("deep_norm_mixture", 8)],
)
def test_a_block_has_the_norms_of_its_residual(residual, norms):
    block = ConformerBlock(2, (12, 12), 3, norm_groups=4, residual=residual)
    block.build(tf.TensorShape([None, None, 8]))
    named = [w.name for w in block.weights if "gamma" in w.name and "depthwise" not in w.name]
    assert len(named) == norms


def test_a_module_is_as_large_in_a_release_block_as_in_a_conformer_s():
    def sizes(residual):
        block = ConformerBlock(2, (12, 12), 3, norm_groups=4, residual=residual)
        block.build(tf.TensorShape([None, None, 8]))
        return [(weight.name, weight.shape) for weight in block.weights]

    assert sizes("deep_norm_release") == sizes("pre_norm")


def test_the_attention_is_the_one_that_is_named():
    assert isinstance(
        ConformerBlock(2, (4, 4), 3, attention="probsparse").attention, ProbSparseAttention
    )


def test_deep_norm_starts_some_weights_smaller():
    block = ConformerBlock(2, (4, 4), 3, residual="deep_norm", alpha=2.0, beta=0.5)
    places = {"feed_forward_1/up", "feed_forward_1/down", "feed_forward_2/up"}
    places |= {"feed_forward_2/down", "attention/value", "attention/output"}
    assert block.gains == {f"{place}/kernel": 0.5 for place in places}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "local"}, "dense or probsparse; got attention='local'"),
        ({"residual": "none"}, "got residual='none'"),
        ({"order": "none"}, "attention_first, convolution_first; got order='none'"),
        ({"stack_factor": 0}, "stack_factor must be at least 1; got stack_factor=0"),
        ({"alpha": 2.0}, "need a deep_norm residual; got alpha=2.0, beta=1.0, residual=pre_norm"),
    ],
)
def test_choices_that_there_are_not_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ConformerBlock(2, (4, 4), 3, **settings)
