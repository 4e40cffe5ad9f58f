import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.decoder_block import DecoderBlock, ReluFeedForward


def test_feed_forward_by_hand():
    layer = ReluFeedForward(2)
    layer.build(tf.TensorShape([None, None, 2]))
    layer.up.kernel.assign([[1.0, 3.0], [0.0, 0.0]])
    layer.up.bias.assign([0.5, 0.0])
    layer.down.kernel.assign([[1.0, 0.0], [0.0, 1.0]])
    layer.down.bias.assign([0.0, 10.0])
    # Normalised to (1, -1) and (-1, 1): inner units (1.5, 3) and (-0.5, -3).
    out = layer(tf.constant([[[3.0, 1.0], [1.0, 3.0]]]))
    np.testing.assert_allclose(out, [[[1.5, 13], [0, 10]]], atol=1e-4)


@pytest.fixture(scope="module")
def block(with_noise_weights):
    return with_noise_weights(DecoderBlock(2, 12), (None, None, 8))


def test_modules_follow_each_other_with_residuals(block, noise):
    x, encoded, mask = noise(2, 4, 8), noise(2, 5, 8, seed=1), tf.sequence_mask([3, 5], 5)
    y = x + block.self_attention(x)
    y = y + block.cross_attention(y, encoded, mask=mask)
    y = y + block.feed_forward(y)
    np.testing.assert_allclose(block(x, encoded, mask=mask), y, atol=1e-6)


def test_steps_are_the_whole_call(block, noise):
    x, encoded, mask = noise(2, 4, 8), noise(2, 5, 8, seed=1), tf.sequence_mask([3, 5], 5)
    memory, cache = block.cross_attention.project(encoded), (tf.zeros([2, 2, 0, 4]),) * 2
    steps = []
    for place in range(4):
        y, cache = block.step(tf.constant(x[:, place : place + 1]), memory, mask, cache)
        steps.append(y)
    np.testing.assert_allclose(tf.concat(steps, 1), block(x, encoded, mask=mask), atol=1e-5)


def test_parameters_of_a_block_512_wide():
    block = DecoderBlock(8, 2048)
    with tf.Graph().as_default():
        block.build(tf.TensorShape([None, None, 512]))
        assert block.count_params() == 4_204_032
