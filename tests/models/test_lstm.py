import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from tfasr.models.lstm import Lstm, LstmState

WIDTH, UNITS = 3, 4


@pytest.fixture(scope="module")
def layer(with_noise_weights):
    return with_noise_weights(Lstm(UNITS), (None, None, WIDTH))


def plain_lstm(layer, x, output, cell):
    """The same step by step in float64: outputs [B, U, P] and the last cell."""
    kernel, bias = (np.asarray(v, float) for v in (layer.gates.kernel, layer.gates.bias))
    recurrent = layer.recurrent.kernel.numpy().astype(float)
    outputs = []
    for step in range(x.shape[1]):
        gates = x[:, step] @ kernel + bias + output @ recurrent
        keep, write, show, new = np.split(gates, 4, axis=1)
        cell = expit(keep) * cell + expit(write) * np.tanh(new)
        output = expit(show) * np.tanh(cell)
        outputs.append(output)
    return np.stack(outputs, 1), cell


def test_a_step_by_hand():
    layer = Lstm(1)
    layer.build((None, None, 1))
    # Gates of 1/2 at all: half of the old cell, and half of tanh(2).
    layer.gates.kernel.assign([[0.0, 0.0, 0.0, 2.0]])
    layer.recurrent.kernel.assign([[0.0, 0.0, 0.0, 0.0]])
    state = LstmState(tf.constant([[0.3]]), tf.constant([[0.8]]))
    outputs, after = layer(tf.constant([[[1.0]]]), state)
    cell = 0.4 + np.tanh(2) / 2
    np.testing.assert_allclose(after.cell, [[cell]], rtol=1e-6)
    np.testing.assert_allclose(outputs, [[[np.tanh(cell) / 2]]], rtol=1e-6)


def test_outputs_are_those_of_the_plain_loop(layer, noise):
    x = noise(2, 7, WIDTH)
    outputs, state = layer(x)
    expected, cell = plain_lstm(layer, x, np.zeros([2, UNITS]), np.zeros([2, UNITS]))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(state.output, expected[:, -1], atol=1e-6)
    np.testing.assert_allclose(state.cell, cell, atol=1e-6)


def test_it_goes_on_from_a_state(layer, noise):
    x, before = noise(2, 3, WIDTH), noise(2, 2, UNITS)
    outputs, _ = layer(x, LstmState(*map(tf.constant, before.transpose(1, 0, 2))))
    expected, _ = plain_lstm(layer, x, before[:, 0], before[:, 1])
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.parametrize("cut", [1, 4, 6])
def test_two_parts_give_what_the_whole_gives(layer, noise, cut):
    x = noise(2, 7, WIDTH)
    whole, last = layer(x)
    first, state = layer(x[:, :cut])
    second, state = layer(x[:, cut:], state)
    np.testing.assert_allclose(tf.concat([first, second], 1), whole, atol=1e-6)
    np.testing.assert_allclose(state.cell, last.cell, atol=1e-6)


def test_parameters_have_one_bias():
    # Of the small Conformer's prediction network: 320 inputs, 320 units.
    layer = Lstm(320)
    layer.build((None, None, 320))
    assert layer.count_params() == 4 * 320 * (320 + 320 + 1) == 820_480


def test_gradients_are_numeric_ones(layer, noise):
    x, upstream = noise(1, 4, WIDTH), noise(1, 4, UNITS, seed=1)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(x)[0] * upstream)
    gradient = tape.gradient(total, layer.recurrent.kernel).numpy()
    kernel = layer.recurrent.kernel
    for place in ((0, 1), (3, 15)):
        before, ends = kernel.numpy(), []
        for step in (1e-3, -1e-3):
            changed = before.copy()
            changed[place] += step
            kernel.assign(changed)
            zeros = np.zeros([1, UNITS])
            ends.append((plain_lstm(layer, x, zeros, zeros)[0] * upstream).sum())
        kernel.assign(before)
        # Half of the last digits of float32 are lost in a difference of 2e-3.
        np.testing.assert_allclose(gradient[place], (ends[0] - ends[1]) / 2e-3, rtol=2e-4)


def test_a_graph_for_all_shapes_computes_the_same(layer, noise):
    graph = tf.function(
        lambda x: layer(x)[0],
        input_signature=[tf.TensorSpec([None, None, WIDTH])],
        autograph=False,
    )
    x = noise(2, 5, WIDTH)
    np.testing.assert_allclose(graph(x), layer(x)[0], atol=1e-6)


def test_it_comes_back_from_its_json_configuration(layer, noise):
    again = keras.layers.deserialize(json.loads(json.dumps(keras.layers.serialize(layer))))
    again.build((None, None, WIDTH))
    again.set_weights(layer.get_weights())
    x = noise(2, 5, WIDTH)
    np.testing.assert_array_equal(again(x)[0], layer(x)[0])


def test_single_steps_give_what_the_sequence_does(noise):
    lstm = Lstm(3)
    x = tf.constant(noise(2, 4, 5))
    whole, last = lstm(x)
    state = lstm.start(2)
    for place in range(4):
        output, state = lstm.step(x[:, place], state)
        np.testing.assert_allclose(output, whole[:, place], atol=1e-6)
    np.testing.assert_allclose(state.cell, last.cell, atol=1e-6)
