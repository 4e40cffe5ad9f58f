import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.sparse_attention import ProbSparseAttention
from tfasr.models.transformer_block import TransformerBlock


def test_output_by_hand():
    layer = TransformerBlock(2, 4)
    layer.build(tf.TensorShape([None, None, 4]))
    for weight in layer.weights:
        weight.assign(tf.zeros_like(weight))
    # Each module adds its last bias alone.
    layer.attention.output_dense.bias.assign([1.0, 2.0, 3.0, 4.0])
    layer.feed_forward.down.bias.assign([10.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(layer(tf.ones([1, 1, 4])), [[[12.0, 3.0, 4.0, 5.0]]])


@pytest.mark.parametrize("attention", ["dense", "probsparse"])
def test_each_module_adds_to_what_it_is_given(noise, with_noise_weights, attention):
    layer = with_noise_weights(TransformerBlock(2, 12, 0.0, attention), (None, None, 8))
    x, mask = tf.constant(noise(2, 6, 8)), tf.sequence_mask([4, 6], 6)
    attended = x + layer.attention(x, mask=mask)
    expected = attended + layer.feed_forward(attended)
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=1e-6)


def test_the_attention_is_the_one_that_is_named():
    assert isinstance(
        TransformerBlock(2, 12, attention="probsparse").attention, ProbSparseAttention
    )


def test_an_unknown_attention_is_named():
    with pytest.raises(ValueError, match="dense or probsparse; got attention='local'"):
        TransformerBlock(2, 12, attention="local")


def test_dropout_is_decided_by_the_seed(noise):
    layer, x = TransformerBlock(2, 12, 0.3), noise(1, 6, 8)
    one, again, other = (layer(x, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
