import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.models.conformer import ConformerCTC, build_model, full_ff_units
from tfasr.models.subsampling import ConvSubsampling

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2, dim=8, num_heads=2, ff_factor=2, conv_kernel=4, norm_groups=2, dropout=0.2
    ),
    num_mels=6,
    vocabulary=5,
)


def test_logits_without_blocks_by_hand():
    model = ConformerCTC(ConvSubsampling(1, name="subsampling"), [], vocabulary=2)
    model.build(tf.TensorShape([None, None, 4]))
    for conv in (model.subsampling.conv_1, model.subsampling.conv_2):
        conv.kernel.assign(tf.ones_like(conv.kernel))
    model.subsampling.project.set_weights([np.array([[1.0]]), np.array([0.0])])
    model.head.set_weights([np.array([[1.0, 2.0, 3.0]]), np.array([0.0, 0.0, 0.5])])
    # The subsampling of 4 x 4 ones is 25 (see its own test); the blank is the last of three.
    logits = model(tf.ones([1, 4, 4]), tf.constant([4]))
    np.testing.assert_allclose(logits, [[[25.0, 50.0, 75.5]]])


def test_blocks_follow_one_another(noise, with_noise_weights):
    model = with_noise_weights(build_model(CONFIG), (None, None, 6))
    features, num_frames = tf.constant(noise(2, 13, 6)), tf.constant([7, 13])
    x, mask = model.subsample(features, num_frames)
    for block in model.blocks:
        x = block(x, mask=mask)
    np.testing.assert_allclose(model(features, num_frames), model.head(x), atol=1e-6)


def test_the_mask_of_the_blocks_is_that_of_the_subsampled_frames(noise):
    x, mask = build_model(CONFIG).subsample(noise(3, 13, 6), tf.constant([0, 5, 13]))
    assert x.shape == (3, 4, 8)
    assert mask.numpy().tolist() == [[False] * 4, [True, True, False, False], [True] * 4]


def test_logits_are_float32_under_bfloat16(noise):
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build_model(CONFIG)
        logits = model(noise(1, 8, 6), tf.constant([8]))
    finally:
        keras.mixed_precision.set_global_policy(policy)
    assert logits.dtype == tf.float32
    assert {variable.dtype for variable in model.variables} == {tf.float32}


def test_dropout_is_decided_by_the_seed(noise):
    model, features, frames = build_model(CONFIG), noise(1, 8, 6), tf.constant([8])
    one, again, other = (
        model(features, frames, seed=tf.constant([0, s])).numpy() for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_without_a_seed_nothing_is_dropped(noise):
    model, features, frames = build_model(CONFIG), noise(1, 8, 6), tf.constant([8])
    np.testing.assert_array_equal(model(features, frames), model(features, frames))


def test_nothing_is_dropped_by_default():
    assert full_ff_units(CONFIG) == [(16, 16), (16, 16)]
    model = build_model(CONFIG)
    assert [block.settings["ff_units"] for block in model.blocks] == [(16, 16), (16, 16)]


def test_a_client_s_model_has_the_units_it_is_given():
    model = build_model(CONFIG, [(3, 4), (5, 6)])
    units = [
        module.up.kernel.shape[1]
        for block in model.blocks
        for module in (block.feed_forward_1, block.feed_forward_2)
    ]
    assert units == [3, 4, 5, 6]


def test_units_that_do_not_name_every_block_are_named():
    with pytest.raises(ValueError, match="must name every block; got 1 pairs for num_blocks=2"):
        build_model(CONFIG, [(3, 4)])
