import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.dense import Dense

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 4, 5, 3), (0, 5, 3)])
def test_each_frame_s_product_with_the_kernel_plus_the_bias(shape):
    layer = Dense(4, "relu")
    x = RNG.normal(size=shape).astype(np.float32)
    layer.build(shape)
    layer.bias.assign([0.5, -0.5, 1, 0])
    expected = np.maximum(np.einsum("...c,cu->...u", x, layer.kernel) + layer.bias, 0)
    y = layer(tf.constant(x))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_unknown_lengths_stay_unknown_and_the_width_is_known():
    layer = Dense(4)

    @tf.function(input_signature=[tf.TensorSpec([2, None, 3])], autograph=False)
    def run(x):
        y = layer(x)
        assert y.shape.as_list() == [2, None, 4]
        return y

    assert run(tf.ones([2, 7, 3])).shape == [2, 7, 4]


def test_the_bias_is_added_within_the_product():
    layer = Dense(4)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])], autograph=False)
    def run(x):
        return layer(x)

    operations = run.get_concrete_function().graph.get_operations()
    [bias] = [operation for operation in operations if operation.type == "BiasAdd"]
    assert bias.inputs[0].op.type == "MatMul"


def test_gradients_are_those_of_keras_s_layer():
    ours, theirs = Dense(4), tf.keras.layers.Dense(4)
    x = tf.constant(RNG.normal(size=[2, 5, 3]).astype(np.float32))
    found = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights([np.ones([3, 4], np.float32), np.arange(4, dtype=np.float32)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x)))
        found.append(tape.gradient(loss, [x, layer.kernel, layer.bias]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
