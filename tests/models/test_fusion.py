import numpy as np
import tensorflow as tf

from tfasr.models.fusion import Chain, fused, fusing

SQUARE = Chain(
    lambda x, factor: (factor * x * x, (x,)),
    lambda x, upstream, factor: (2 * factor * x * upstream,),
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
