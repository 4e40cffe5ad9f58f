import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.presets import PRESETS
from tfasr.models.layout import layout_without_weights
from tfasr.models.transducer import JointNetwork, PredictionNetwork

VOCABULARY, DIM, UNITS = 5, 3, 4
TOKENS = tf.constant([[3, 1, 4], [2, 0, 0], [0, 0, 0]])
NUM_TOKENS = tf.constant([3, 1, 0])


@pytest.fixture(scope="module")
def prediction(with_noise_weights):
    return with_noise_weights(PredictionNetwork(VOCABULARY, 6, UNITS), None)


@pytest.fixture(scope="module")
def joint(with_noise_weights):
    return with_noise_weights(JointNetwork(VOCABULARY, 6), (DIM, UNITS))


def test_places_have_read_the_start_and_the_tokens_before(prediction):
    out = prediction(TOKENS, NUM_TOKENS)
    read = tf.gather(prediction.embeddings, [[VOCABULARY, 3, 1, 4]]) * 6**0.5
    np.testing.assert_allclose(out[:1], prediction.lstm(read)[0], atol=1e-6)


def test_steps_give_what_a_call_gives(prediction):
    whole = prediction(TOKENS, NUM_TOKENS)
    output, state = prediction.start(tf.constant(3))
    outputs = [output]
    for place in range(3):
        output, state = prediction.step(TOKENS[:, place], state)
        outputs.append(output)
    stepped = tf.stack(outputs, 1)
    for row, count in enumerate(NUM_TOKENS):
        np.testing.assert_allclose(stepped[row, : count + 1], whole[row, : count + 1], atol=1e-6)


def test_padding_changes_no_place(prediction):
    whole = prediction(TOKENS, NUM_TOKENS)
    for padding in (-1, VOCABULARY + 7):
        inside = tf.sequence_mask(NUM_TOKENS, 3)
        tokens = tf.pad(tf.where(inside, TOKENS, padding), [[0, 0], [0, 2]])
        padded = prediction(tokens, NUM_TOKENS)
        np.testing.assert_allclose(padded[:, :4], whole, atol=1e-6)


def test_no_tokens_give_what_the_start_gives(prediction):
    out = prediction(tf.zeros([2, 0], tf.int32), tf.constant([0, 0]))
    np.testing.assert_allclose(out[:, 0], prediction.start(tf.constant(2))[0], atol=1e-6)


def test_dropout_hangs_on_its_seed_alone():
    layer = PredictionNetwork(VOCABULARY, 6, UNITS, dropout=0.5)
    layer.build(None)
    once, again, other = (layer(TOKENS, NUM_TOKENS, tf.constant([7, n])) for n in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.mean(once != other) > 0.2
    without = layer(TOKENS, NUM_TOKENS)
    assert not np.any(without == 0)
    assert np.any(once == 0)


def test_a_logit_by_hand():
    joint = JointNetwork(1, 1)
    joint.build((2, 1))
    values = [[[1.0], [2.0]], [0.5], [[3.0]], [0.25], [[2.0, -1.0]], [0.0, 4.0]]
    for weight, value in zip(joint.weights, values, strict=True):
        weight.assign(value)
    # tanh(1 * 0.1 + 2 * 0.2 + 0.5 - 3 * 0.3 + 0.25)
    hidden = np.tanh(0.35)
    logits = joint(tf.constant([[0.1, 0.2]]), tf.constant([[-0.3]]))
    np.testing.assert_allclose(logits, [[2 * hidden, 4 - hidden]], rtol=1e-5)


def test_frames_and_places_are_joined_pair_by_pair(joint, noise):
    encoded, predicted = noise(2, 3, DIM), noise(2, 4, UNITS)
    logits = joint(encoded[:, :, None], predicted[:, None])
    assert logits.shape == [2, 3, 4, VOCABULARY + 1]
    pair = joint(encoded[1, 2][None], predicted[1, 3][None])
    np.testing.assert_allclose(logits[1, 2, 3], pair[0], atol=1e-6)


def test_logits_are_float32_whatever_is_computed_in(noise):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        joint, prediction = JointNetwork(VOCABULARY, 6), PredictionNetwork(VOCABULARY, 6, UNITS)
        joint.build((DIM, UNITS))
        predicted = prediction(TOKENS, NUM_TOKENS)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert predicted.dtype == tf.bfloat16
    assert joint(noise(3, 4, DIM), predicted).dtype == tf.float32


def test_both_come_back_from_their_json_configuration(prediction, joint, noise):
    def again(layer, input_shape):
        made = keras.layers.deserialize(json.loads(json.dumps(keras.layers.serialize(layer))))
        made.build(input_shape)
        made.set_weights(layer.get_weights())
        return made

    predicted = prediction(TOKENS, NUM_TOKENS)
    np.testing.assert_array_equal(again(prediction, None)(TOKENS, NUM_TOKENS), predicted)
    encoded = noise(3, 4, DIM)
    logits = again(joint, (DIM, UNITS))(encoded, predicted)
    np.testing.assert_array_equal(logits, joint(encoded, predicted))


# Ambient-layers paper, Table 2; by module as the arithmetic has it.
@pytest.mark.parametrize(
    ("preset", "total", "prediction", "joint"),
    [
        ("conformer_s_transducer", 10_336_832, 820_480, 149_120),
        ("conformer_m_transducer", 30_731_392, 2_460_160, 287_360),
        ("conformer_l_transducer", 118_597_248, 2_460_160, 369_280),
    ],
)
def test_parameters_are_those_of_the_paper(preset, total, prediction, joint):
    config = PRESETS[preset]
    # All blocks have the same parameters, and sixteen take long to build.
    one = replace(config, encoder=replace(config.encoder, num_blocks=1))
    layout = layout_without_weights(one)
    others = (config.num_blocks - 1) * layout.block_parameters()
    modules = layout.module_parameters()
    assert layout.parameters() + others == total
    # Embeddings of 1,024 symbols, and as many outputs with a bias, are counted apart.
    assert modules["prediction"] == prediction + 320 * 1024
    assert modules["joint"] == joint + 321 * 1024
