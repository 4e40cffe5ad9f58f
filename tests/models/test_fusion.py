import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.attention import ChunkedAttention, RelativeAttention, chunk_mask
from tfasr.models.convolution import ConvolutionModule
from tfasr.models.fusion import Chain, fused, fusing, inferring
from tfasr.models.normalization import LayerNorm, MaskedGroupNorm

SQUARE = Chain(
    lambda x, factor: (factor * x * x, (2 * factor,)),
    lambda x, slope, upstream, factor: (slope * x * upstream,),
)


def compiled(graph):
    """Whether a function of the graph is XLA's."""
    return any(
        "_XlaMustCompile" in operation.node_def.attr and operation.get_attr("_XlaMustCompile")
        for operation in graph.get_operations()
    )


def squared(fuse):
    @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
    def run(x):
        if not fuse:
            return value_and_gradient(x)
        with fusing():
            return value_and_gradient(x)

    return run


def value_and_gradient(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = SQUARE(x, factor=3.0)
    return y, tape.gradient(y, x)


def test_a_chain_and_its_gradient_by_hand_fused_or_not():
    for run in (squared(fuse=True), squared(fuse=False), value_and_gradient):
        y, gradient = run(tf.constant([1.0, 2.0]))
        np.testing.assert_allclose(y, [3, 12])
        np.testing.assert_allclose(gradient, [6, 12])


def test_only_what_is_traced_inside_is_compiled():
    assert compiled(squared(fuse=True).get_concrete_function().graph)
    assert not compiled(squared(fuse=False).get_concrete_function().graph)


def test_a_fused_function_takes_any_shape():
    run = squared(fuse=True)
    for size in (1, 2, 5):
        np.testing.assert_allclose(run(tf.ones([size]))[1], np.full(size, 6.0))


def test_a_fused_function_is_the_plain_one_by_the_step():
    double = fused(lambda x, factor: factor * x)
    with fusing():
        np.testing.assert_allclose(double(tf.constant([1.0]), factor=2.0), [2])


def settled(layer, shape):
    """The layer with weights that are not those it begins with."""
    layer.build(shape)
    generator = np.random.default_rng(0)
    layer.set_weights([generator.normal(0, 0.5, w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: LayerNorm(),
        lambda: LayerNorm(epsilon=1e-9),
        lambda: MaskedGroupNorm(2),
        lambda: RelativeAttention(2),
        lambda: ChunkedAttention(2),
        lambda: ConvolutionModule(3, norm_groups=2),
    ],
    ids=[
        "layer_norm",
        "layer_norm_of_small_epsilon",
        "group_norm",
        "attention",
        "chunked_attention",
        "convolution",
    ],
)
def test_the_form_for_inference_gives_what_the_plain_one_does(make):
    layer = settled(make(), [None, None, 8])
    masked = {} if isinstance(layer, LayerNorm) else {"mask": tf.sequence_mask([6, 3], 6)}
    x = tf.constant(np.random.default_rng(1).normal(2, 3, [2, 6, 8]), tf.float32)
    x = tf.concat([x, 1e-3 * x], 0) if isinstance(layer, LayerNorm) else x

    @tf.function(input_signature=[tf.TensorSpec([None, None, 8])], autograph=False)
    def inferred(x):
        with inferring():
            return layer(x, **masked)

    np.testing.assert_allclose(inferred(x), layer(x, **masked), rtol=1e-5, atol=1e-5)


def test_the_form_for_inference_keeps_some_frames_from_others():
    layer = settled(ChunkedAttention(2), [None, None, 8])
    x = tf.constant(np.random.default_rng(1).normal(size=[2, 6, 8]), tf.float32)
    given = {"mask": tf.sequence_mask([6, 3], 6), "attention_mask": chunk_mask(6, 2, 2)}

    @tf.function(autograph=False)
    def inferred(x):
        with inferring():
            return layer(x, **given)

    np.testing.assert_allclose(inferred(x), layer(x, **given), rtol=1e-5, atol=1e-5)


def test_an_utterance_without_frames_has_finite_numbers_in_the_form_for_inference():
    layer = settled(RelativeAttention(2), [None, None, 8])

    @tf.function(autograph=False)
    def inferred(x):
        with inferring():
            return layer(x, mask=tf.sequence_mask([4, 0], 4))

    assert np.isfinite(inferred(tf.ones([2, 4, 8]))).all()


def test_a_layer_norm_for_inference_is_one_that_the_graph_optimiser_knows():
    layer = settled(LayerNorm(), [None, None, 8])

    @tf.function(input_signature=[tf.TensorSpec([None, None, 8])], autograph=False)
    def run(x):
        with inferring():
            return layer(x)

    kinds = {operation.type for operation in run.get_concrete_function().graph.get_operations()}
    assert "FusedBatchNormV3" in kinds
    assert "SquaredDifference" not in kinds
