"""What every sequence layer keeps to."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.attention import ChunkedAttention, RelativeAttention, chunk_mask
from tfasr.models.block import ConformerBlock
from tfasr.models.citrinet import (
    CitrinetBlock,
    CitrinetEnd,
    NormalisedPointwise,
    SeparableConv,
    SqueezeExcite,
)
from tfasr.models.convolution import ConvolutionModule, DepthwiseConv
from tfasr.models.cumulative_norm import CumulativeGroupNorm
from tfasr.models.decoder import BidirectionalDecoder
from tfasr.models.decoder_attention import CausalAttention, CrossAttention
from tfasr.models.decoder_block import DecoderBlock, ReluFeedForward
from tfasr.models.feed_forward import FeedForward
from tfasr.models.frame_stacking import StackedFeedForward
from tfasr.models.normalization import FrameNorm, MaskedBatchNorm, MaskedGroupNorm
from tfasr.models.residual import AfterNorm
from tfasr.models.sparse_attention import ProbSparseAttention
from tfasr.models.subsampling import ConvSubsampling
from tfasr.models.transformer_block import TransformerBlock

CHANNELS = 8


def small_conformer():
    blocks = [ConformerBlock(2, (12, 12), 4, "group", 2, name=f"block_{i}") for i in (0, 1)]
    return AcousticModel(ConvSubsampling(6, name="subsampling"), blocks, 5)


def streaming_block(stack_factor=1, conv_norm="layer", **settings):
    settings = {"order": "convolution_first", "conv_padding": "causal", **settings}
    return ConformerBlock(2, (12, 6), 4, conv_norm, 4, stack_factor=stack_factor, **settings)


def streaming_conformer():
    norms = enumerate(("cumulative_group", "layer"))
    blocks = [streaming_block(1 + i, norm, name=f"block_{i}") for i, norm in norms]
    return AcousticModel(
        ConvSubsampling(8, name="subsampling"), blocks, 5, chunks=(2, 0), left_context=2
    )


def small_citrinet():
    blocks = [CitrinetBlock(3, 2, 2, 2, norm_groups=2, name=f"block_{i}") for i in (0, 1)]
    prologue = CitrinetEnd(6, 3, 2, norm_groups=3, name="prologue")
    epilogue = CitrinetEnd(4, 5, 2, norm_groups=2, name="epilogue")
    return AcousticModel(prologue, blocks, 5, final=epilogue)


def deep_block(residual, attention="dense"):
    settings = {"conv_norm": "group", "norm_groups": 4, "attention": attention, "conv_bias": True}
    return ConformerBlock(2, (12, 6), 5, residual=residual, alpha=1.5, beta=0.5, **settings)


def with_mask(layer, x, mask):
    return layer(x, mask=mask)


def frame_by_frame(layer, x, mask):
    return layer(x)


def zero_on_padding(layer, x, mask):
    return layer(tf.where(mask[:, :, None], x, tf.zeros([], x.dtype)))


def masked_and_zero_on_padding(layer, x, mask):
    return layer(tf.where(mask[:, :, None], x, tf.zeros([], x.dtype)), mask=mask)


def with_chunks(layer, x, mask):
    return layer(x, mask=mask, attention_mask=chunk_mask(tf.shape(x)[1], 2, 3))


def with_num_frames(layer, x, mask):
    return layer(x, tf.reduce_sum(tf.cast(mask, tf.int32), 1))


def with_itself_encoded(layer, x, mask):
    return layer(x, x, mask=mask)


def with_tokens(layer, x, mask):
    """Logits of both directions for one token less than there are frames."""
    num_rows, num_frames = tf.unstack(tf.shape(x)[:2])
    lengths = tf.fill([num_rows], num_frames)
    lengths = lengths if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    tokens = tf.tile(tf.range(1, num_frames)[None] * 3 % layer.left.vocabulary, [num_rows, 1])
    return tf.concat(layer(x, mask, tokens, tf.maximum(lengths - 1, 0)), -1)


# The layer, how it is called, and by how much it shortens its input.
CASES = {
    "feed_forward": (lambda: FeedForward(12), frame_by_frame, 1),
    "attention": (lambda: RelativeAttention(2), with_mask, 1),
    "chunked_attention": (lambda: ChunkedAttention(2), with_chunks, 1),
    "attention_of_a_client": (lambda: RelativeAttention(4, missing_heads=3), with_mask, 1),
    "sparse_attention_of_a_client": (
        lambda: ProbSparseAttention(4, missing_heads=1),
        with_mask,
        1,
    ),
    "convolution_of_a_client": (
        lambda: ConvolutionModule(3, "group", 4, missing_channels=4),
        with_mask,
        1,
    ),
    "sparse_attention": (lambda: ProbSparseAttention(2), with_mask, 1),
    "relu_feed_forward": (lambda: ReluFeedForward(12), frame_by_frame, 1),
    "causal_attention": (lambda: CausalAttention(2), frame_by_frame, 1),
    "cross_attention": (lambda: CrossAttention(2), with_itself_encoded, 1),
    "decoder_block": (lambda: DecoderBlock(2, 12), with_itself_encoded, 1),
    "decoder": (lambda: BidirectionalDecoder(1, 1, 2, 12, 5), with_tokens, 1),
    "depthwise_odd": (lambda: DepthwiseConv(3), zero_on_padding, 1),
    "depthwise_even": (lambda: DepthwiseConv(4), zero_on_padding, 1),
    "depthwise_causal": (lambda: DepthwiseConv(4, padding="causal"), zero_on_padding, 1),
    "stacked_feed_forward": (lambda: StackedFeedForward(12, 2), frame_by_frame, 1),
    "convolution_layer": (lambda: ConvolutionModule(4, "layer"), with_mask, 1),
    "convolution_cumulative": (
        lambda: ConvolutionModule(3, "cumulative_group", 4, padding="causal"),
        with_mask,
        1,
    ),
    "convolution_group": (lambda: ConvolutionModule(3, "group", 4), with_mask, 1),
    "convolution_batch": (lambda: ConvolutionModule(4, "batch"), with_mask, 1),
    "group_norm": (lambda: MaskedGroupNorm(2), with_mask, 1),
    "batch_norm": (lambda: MaskedBatchNorm(), with_mask, 1),
    "frame_norm": (lambda: FrameNorm(), with_mask, 1),
    "cumulative_norm": (lambda: CumulativeGroupNorm(2), with_mask, 1),
    "subsampling": (lambda: ConvSubsampling(6), with_mask, 4),
    "block_group": (lambda: ConformerBlock(2, (12, 6), 5, "group", 4), with_mask, 1),
    "block_batch": (lambda: ConformerBlock(2, (12, 6), 4, "batch"), with_mask, 1),
    "block_streaming": (lambda: streaming_block(), with_chunks, 1),
    "block_stacked": (lambda: streaming_block(2, "cumulative_group"), with_mask, 2),
    "block_stacked_deep": (
        lambda: streaming_block(3, residual="deep_norm_mixture", alpha=1.5, beta=0.5),
        with_mask,
        3,
    ),
    "block_deep_norm": (lambda: deep_block("deep_norm"), with_mask, 1),
    "block_deep_norm_mixture": (lambda: deep_block("deep_norm_mixture"), with_mask, 1),
    "block_deep_sparse": (lambda: deep_block("deep_norm_release", "probsparse"), with_mask, 1),
    "after_norm": (lambda: AfterNorm(), with_mask, 1),
    "transformer_block": (lambda: TransformerBlock(2, 12), with_mask, 1),
    "pointwise_batch": (lambda: NormalisedPointwise(6, "batch"), with_mask, 1),
    "separable": (lambda: SeparableConv(6, 5, 1, "group", 3), masked_and_zero_on_padding, 1),
    "separable_strided": (lambda: SeparableConv(6, 3, 2, "batch"), masked_and_zero_on_padding, 2),
    "squeeze": (lambda: SqueezeExcite(4), with_mask, 1),
    "citrinet_end": (lambda: CitrinetEnd(6, 5, 2, "group", 3), with_mask, 1),
    "citrinet_block": (lambda: CitrinetBlock(3, 1, 2, 2, "group", 4), with_mask, 1),
    "citrinet_block_strided": (lambda: CitrinetBlock(5, 2, 3, 2, "batch"), with_mask, 2),
    "conformer": (small_conformer, with_num_frames, 4),
    "streaming_conformer": (streaming_conformer, with_num_frames, 8),
    "citrinet": (small_citrinet, with_num_frames, 4),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def layer(case, with_noise_weights):
    return with_noise_weights(case[0](), (None, None, CHANNELS))


def real(lengths, frames):
    return tf.sequence_mask(lengths, frames)


# Real frames and all frames; a layer that shortens its input is tried at every remainder of four.
LENGTHS = [(1, 2), (5, 6), (8, 9), (11, 20)]
MORE_LENGTHS = [(2, 9), (6, 13), (12, 13)]


def test_padding_changes_no_real_frame(case, layer, noise):
    _, call, factor = case
    for length, frames in LENGTHS if factor == 1 else LENGTHS + MORE_LENGTHS:
        x = noise(2, frames, CHANNELS)
        alone = call(layer, x[:1, :length], real([length], length))
        # Whatever stands in the padding.
        x[0, length:] = 100 * noise(frames - length, CHANNELS, seed=1)
        padded = call(layer, x, real([length, frames], frames))
        kept = -(-length // factor)
        assert alone.shape[1] == kept
        where = f"{length} of {frames} frames"
        np.testing.assert_allclose(padded[:1, :kept], alone, atol=2e-5, err_msg=where)


def test_no_mask_means_that_all_frames_are_real(case, layer, noise):
    call, x = case[1], tf.constant(noise(2, 7, CHANNELS))
    if call in (with_itself_encoded, with_tokens, with_chunks):
        without = call(layer, x, None)
    else:
        without = layer(x, tf.constant([7, 7])) if call is with_num_frames else layer(x)
    np.testing.assert_allclose(without, call(layer, x, real([7, 7], 7)), atol=1e-6)


def test_output_is_finite_where_an_utterance_has_no_real_frame(case, layer, noise):
    out = case[1](layer, tf.constant(noise(2, 7, CHANNELS)), real([0, 7], 7))
    assert np.isfinite(out).all()


def test_a_layer_comes_back_from_its_json_configuration(case, layer, noise):
    stored = json.dumps(keras.layers.serialize(layer))
    again = keras.layers.deserialize(json.loads(stored))
    if not again.built:
        again.build((None, None, CHANNELS))
    again.set_weights(layer.get_weights())
    x, mask = tf.constant(noise(2, 7, CHANNELS)), real([5, 7], 7)
    np.testing.assert_array_equal(case[1](again, x, mask), case[1](layer, x, mask))


def test_a_graph_for_all_shapes_computes_the_same(case, layer, noise):
    signature = [tf.TensorSpec([None, None, CHANNELS]), tf.TensorSpec([None, None], tf.bool)]
    call = functools.partial(case[1], layer)
    graph = tf.function(call, input_signature=signature, autograph=False)
    x, mask = tf.constant(noise(2, 7, CHANNELS)), real([5, 7], 7)
    np.testing.assert_allclose(graph(x, mask), case[1](layer, x, mask), atol=1e-5)


def test_every_trainable_weight_has_a_gradient(case, layer, noise):
    with tf.GradientTape() as tape:
        out = case[1](layer, tf.constant(noise(2, 9, CHANNELS)), real([5, 9], 9))
        loss = tf.reduce_sum(out * noise(*out.shape, seed=1))
    gradients = tape.gradient(loss, layer.trainable_weights)
    missing = {
        weight.name
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    }
    # A constant added to all keys changes no attention.
    assert not {name for name in missing if "key/bias" not in name}


@pytest.fixture
def bfloat16_policy():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_bfloat16_computes_the_same_to_its_precision(
    case, layer, noise, with_noise_weights, bfloat16_policy
):
    make, call, _ = case
    mixed = with_noise_weights(make(), (None, None, CHANNELS))
    x, mask = tf.constant(noise(2, 7, CHANNELS)), real([5, 7], 7)
    expected = call(layer, x, mask).numpy()
    out = tf.cast(call(mixed, tf.cast(x, tf.bfloat16), mask), tf.float32).numpy()
    # Eight bits, over the roundings of up to two blocks.
    assert 0 < np.abs(out - expected).mean() < 0.03 * np.abs(expected).mean()
