from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.dropout import dropout
from tfasr.models.recomputation import recomputed
from tfasr.models.scopes import build_in_scope

SEED = tf.constant([3, 4])
MASK = tf.sequence_mask([5, 9], 9)


class Block(keras.layers.Layer):
    """What a block does, in small: weights, a mask, and draws by a seed.

    Args:
        units: Inner units.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.up = keras.layers.Dense(units, "tanh", dtype=self.dtype_policy, name="up")
        self.down = keras.layers.Dense(8, dtype=self.dtype_policy, name="down")

    def build(self, input_shape):
        build_in_scope(self.up, input_shape)
        build_in_scope(self.down, (None, None, self.units))
        super().build(input_shape)

    def call(self, x, mask, seed):
        y = self.down(dropout(self.up(x), 0.3, seed))
        return x + tf.where(mask[:, :, None], y, tf.zeros([], y.dtype))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.fixture(scope="module")
def make_blocks(with_noise_weights):
    """Blocks of the given inner units, 8 wide, the first weights of which are noise."""

    def make(*units, dtype="float32"):
        return [with_noise_weights(Block(number, dtype=dtype), (None, None, 8)) for number in units]

    return make


def kept(block, x, inputs):
    return block(x, **inputs)


def all_gradients(call, blocks, x, seed=SEED):
    """Gradients of what blocks give one after another, by the first one's input and weights."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for number, block in enumerate(blocks):
            y = call(block, y, {"mask": MASK, "seed": seed + number})
        loss = tf.reduce_sum(tf.square(y))
    weights = [weight for block in blocks for weight in block.trainable_variables]
    return tape.gradient(loss, [x, *weights])


def in_graph(call, blocks):
    signature = [tf.TensorSpec([2, 9, 8])]
    return tf.function(partial(all_gradients, call, blocks), signature, autograph=False)


def assert_alike(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def functions_of(graph):
    return graph.get_concrete_function().graph.as_graph_def().library.function


def test_the_gradient_of_a_square_by_hand():
    x = tf.constant([[[3.0]]])
    layer = keras.layers.Dense(1, use_bias=False)
    layer.build((None, None, 1))
    layer.kernel.assign([[2.0]])

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.square(recomputed(layer, x, {}))  # (k x)^2
        return tape.gradient(loss, [x, layer.kernel])

    of_x, of_kernel = gradients()
    assert of_x.numpy().item() == 2 * 2**2 * 3
    assert of_kernel.numpy().item() == 2 * 2 * 3**2


@pytest.mark.parametrize("make_call", [in_graph, lambda *given: partial(all_gradients, *given)])
def test_recomputed_blocks_have_the_gradients_of_kept_ones(noise, make_blocks, make_call):
    blocks, x = make_blocks(6, 6, 4), tf.constant(noise(2, 9, 8))
    # The second has other weights than the first, of which it uses the functions.
    for weight in blocks[1].trainable_variables:
        weight.assign(0.7 * tf.reverse(weight, [0]))
    assert_alike(make_call(recomputed, blocks)(x), make_call(kept, blocks)(x))


def test_blocks_alike_share_two_functions(make_blocks):
    assert len(functions_of(in_graph(recomputed, make_blocks(6, 6, 6)))) == 2


def test_a_block_of_another_size_has_functions_of_its_own(make_blocks):
    assert len(functions_of(in_graph(recomputed, make_blocks(6, 4, 6)))) == 4


def test_a_block_with_frozen_weights_has_functions_of_its_own(noise, make_blocks):
    blocks, x = make_blocks(8, 8), tf.constant(noise(2, 9, 8))
    blocks[0].up.trainable = False
    blocks[1].down.trainable = False
    assert len(functions_of(in_graph(recomputed, blocks))) == 4
    assert_alike(in_graph(recomputed, blocks)(x), in_graph(kept, blocks)(x))


def test_another_graph_does_not_use_the_functions_of_the_first(noise, make_blocks):
    blocks, x = make_blocks(6), tf.constant(noise(2, 9, 8))
    first, second = (in_graph(recomputed, blocks)(x) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_seed_decides_what_both_computations_drop(noise, make_blocks):
    blocks, x = make_blocks(6), tf.constant(noise(2, 9, 8))
    one, again, other = (
        tf.function(all_gradients, autograph=False)(recomputed, blocks, x, tf.constant(seed))[0]
        for seed in ([0, 1], [0, 1], [0, 2])
    )
    np.testing.assert_array_equal(one, again)
    assert (one.numpy() != other.numpy()).any()


def test_weights_have_float32_gradients_where_a_model_computes_in_bfloat16(noise, make_blocks):
    class Stack(keras.layers.Layer):
        """Calls its blocks where Keras reads variables as bfloat16."""

        def __init__(self, call, blocks):
            super().__init__(dtype="mixed_bfloat16")
            self.one_by_one, self.blocks = call, blocks

        def call(self, x):
            for block in self.blocks:
                x = self.one_by_one(block, x, {"mask": MASK, "seed": SEED})
            return x

    blocks = make_blocks(6, 6, dtype="mixed_bfloat16")
    weights = [weight for block in blocks for weight in block.trainable_variables]

    def gradients(stack, x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.cast(stack(x), tf.float32)))
        return tape.gradient(loss, weights)

    x = tf.constant(noise(2, 9, 8))
    found, expected = (
        tf.function(gradients, autograph=False)(Stack(call, blocks), x)
        for call in (recomputed, kept)
    )
    assert {gradient.dtype for gradient in found} == {tf.float32}
    assert_alike(found, expected)


def test_a_block_that_reads_somebody_else_s_variable_is_refused():
    class Borrower(keras.layers.Layer):
        """Adds a variable of nobody's."""

        def call(self, x):
            return x + outside.read_value()

    outside = tf.Variable(1.0)
    graph = tf.function(lambda x: recomputed(Borrower(name="borrower"), x, {}), autograph=False)
    with pytest.raises(ValueError, match="its own variables only; got block=borrower, which reads"):
        graph(tf.ones([1, 1, 1]))
