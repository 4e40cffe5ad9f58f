import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import (
    CitrinetConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    TransformerConfig,
)
from tfasr.models.conformer import ConformerCTC, build_model, full_ff_units
from tfasr.models.layout import Layout, weights_hash
from tfasr.models.residual import deep_norm_factors
from tfasr.models.subsampling import ConvSubsampling

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2, dim=8, num_heads=2, ff_factor=2, conv_kernel=4, norm_groups=2, dropout=0.2
    ),
    num_mels=6,
    vocabulary=5,
)

DEEP = replace(
    CONFIG,
    encoder=replace(
        CONFIG.encoder,
        attention="probsparse",
        residual="deep_norm_release",
        subsampling="valid",
        conv_bias=True,
        after_norm=True,
    ),
    decoder=DecoderConfig(num_blocks_left=2, num_blocks_right=1, num_heads=2, ff_units=3),
    num_mels=7,
)
TRANSFORMER = ModelConfig(
    family="transformer",
    transformer=TransformerConfig(num_blocks=2, dim=8, num_heads=2, ff_units=12),
    num_mels=7,
    vocabulary=5,
)
CITRINET = ModelConfig(
    family="citrinet",
    citrinet=CitrinetConfig(
        channels=8,
        final_channels=4,
        kernels=((3, 5), (3,), (5,)),
        prologue_kernel=3,
        epilogue_kernel=3,
        repeat=2,
        squeeze=2,
        norm_groups=2,
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


def test_units_that_do_not_name_every_module_are_named():
    with pytest.raises(ValueError, match=r"must name 1 modules of a block; got \(3, 4\)"):
        build_model(TRANSFORMER, [(3,), (3, 4)])


def test_a_transformer_s_blocks_have_one_number_of_units_and_a_citrinet_s_none():
    assert full_ff_units(TRANSFORMER) == [(12,), (12,)]
    assert full_ff_units(CITRINET) == [()] * 4
    blocks = build_model(TRANSFORMER, [(3,), (4,)]).blocks
    assert [block.feed_forward.up.kernel.shape for block in blocks] == [(8, 3), (8, 4)]


@pytest.mark.parametrize("config", [CONFIG, DEEP, TRANSFORMER, CITRINET])
def test_encoded_frames_are_those_that_the_mask_counts(noise, config):
    num_frames = tf.constant([0, 6, 9, 16, 33])
    model = build_model(config)
    encoded, mask = model.encode(noise(5, 33, config.num_mels), num_frames)
    assert encoded.shape == (5, mask.shape[1], config.dim)
    counted = model.encoded_frames(num_frames).numpy().tolist()
    assert tf.reduce_sum(tf.cast(mask, tf.int32), 1).numpy().tolist() == counted


def test_encoded_frames_of_each_family_by_hand():
    frames = tf.constant([0, 1, 7, 8, 9, 16, 17])
    by_family = [build_model(c).encoded_frames(frames) for c in (CONFIG, TRANSFORMER, CITRINET)]
    assert by_family[0].numpy().tolist() == [0, 1, 2, 2, 3, 4, 5]
    assert by_family[1].numpy().tolist() == [0, 0, 1, 1, 1, 3, 3]
    assert by_family[2].numpy().tolist() == [0, 1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("config", [DEEP, TRANSFORMER, CITRINET])
def test_padding_changes_no_real_logits(noise, with_noise_weights, config):
    model = with_noise_weights(build_model(config), (None, None, config.num_mels))
    x, length = noise(2, 23, config.num_mels), 15
    alone = model(x[:1, :length], tf.constant([length]))
    x[0, length:] = 100 * noise(23 - length, config.num_mels, seed=1)
    kept = int(model.encoded_frames(length))
    padded = model(x, tf.constant([length, 23]))
    np.testing.assert_allclose(padded[:1, :kept], alone[:, :kept], atol=5e-5)


@pytest.mark.parametrize("config", [DEEP, CITRINET])
def test_logits_follow_from_what_the_last_block_gives(noise, config):
    model = build_model(config)
    features, num_frames = tf.constant(noise(2, 33, config.num_mels)), tf.constant([20, 33])
    x, mask = model.subsample(features, num_frames)
    for block in model.blocks:
        x = block(x, mask=mask)
        mask = block.compute_mask(x, mask)
    np.testing.assert_allclose(model.logits(x, mask), model(features, num_frames), atol=1e-6)


@pytest.mark.parametrize("config", [DEEP, TRANSFORMER, CITRINET])
def test_a_model_comes_back_from_its_configuration(noise, config):
    model = build_model(config)
    again = ConformerCTC.from_config(model.get_config())
    again.build(tf.TensorShape([None, None, config.num_mels]))
    again.set_weights(model.get_weights())
    features, num_frames = tf.constant(noise(2, 20, config.num_mels)), tf.constant([12, 20])
    np.testing.assert_array_equal(again(features, num_frames), model(features, num_frames))


@pytest.mark.parametrize("family", [DEEP, TRANSFORMER, CITRINET])
def test_a_decoder_reads_the_encoding(noise, family):
    decoder = DecoderConfig(num_blocks_left=1, num_blocks_right=1, num_heads=2, ff_units=3)
    model = build_model(replace(family, decoder=decoder))
    encoded, mask = model.encode(noise(2, 20, family.num_mels), tf.constant([12, 20]))
    tokens = tf.constant([[1, 2, 0], [4, 3, 2]])
    left, right = model.decoder(encoded, mask, tokens, tf.constant([2, 3]))
    assert left.shape == right.shape == (2, 4, 6)


def test_by_default_there_is_no_decoder():
    assert build_model(CONFIG).decoder is None


@pytest.mark.parametrize("alpha_of", ["paper", "release"])
def test_deep_norm_counts_the_blocks_of_encoder_and_decoder(alpha_of):
    config = replace(DEEP, encoder=replace(DEEP.encoder, alpha_of=alpha_of))
    settings = build_model(config).blocks[0].settings
    assert (settings["alpha"], settings["beta"]) == deep_norm_factors(2, 2, alpha_of)


def losses_and_gradients(model, features, num_frames, seed):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(features, num_frames, seed=seed)))
    return loss, tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize(
    ("config", "precision", "in_graph"),
    [
        (CONFIG, "float32", False),
        (replace(DEEP, encoder=replace(DEEP.encoder, num_blocks=1)), "float32", True),
        (DEEP, "mixed_bfloat16", False),
    ],
)
def test_recomputed_blocks_have_the_gradients_of_kept_ones(noise, config, precision, in_graph):
    config = replace(config, decoder=DecoderConfig())
    features = tf.constant(noise(2, 30, config.num_mels))
    arguments = features, tf.constant([21, 30]), tf.constant([3, 4])
    models = [
        build_model(
            replace(config, encoder=replace(config.encoder, recompute=recompute)), None, precision
        )
        for recompute in (False, True)
    ]
    models[1].set_weights(models[0].get_weights())
    run = tf.function(losses_and_gradients, autograph=False) if in_graph else losses_and_gradients
    (loss, kept), (again, recomputed) = (run(model, *arguments) for model in models)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    for one, other in zip(kept, recomputed, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6 * np.abs(one).max())


def test_recomputing_leaves_inference_and_the_layout_as_they_are(noise):
    models = [
        build_model(replace(DEEP, encoder=replace(DEEP.encoder, recompute=recompute)))
        for recompute in (False, True)
    ]
    models[1].set_weights(models[0].get_weights())
    assert weights_hash(Layout(models[1])) == weights_hash(Layout(models[0]))
    one, other = (model(noise(1, 20, 7), tf.constant([20])) for model in models)
    np.testing.assert_array_equal(one, other)


PEAK = """
import resource, sys
import tensorflow as tf
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.models.conformer import build_model

encoder = EncoderConfig(
    num_blocks=24, dim=32, num_heads=4, conv_kernel=15, norm_groups=8,
    residual="deep_norm_release", recompute=sys.argv[1] == "recompute",
)
model = build_model(ModelConfig(encoder=encoder, num_mels=20, vocabulary=10))

@tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, 20])])
def step(features):
    with tf.GradientTape() as tape:
        frames = tf.fill([tf.shape(features)[0]], tf.shape(features)[1])
        loss = tf.reduce_sum(model(features, frames, seed=tf.constant([0, 1])))
    return tape.gradient(loss, model.trainable_variables)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

step(tf.ones([1, 8, 20]))
before = peak()
step(tf.ones([4, 2000, 20]))
print(peak() - before)
"""


@pytest.mark.slow
def test_recomputing_takes_a_fraction_of_the_memory():
    # Freed memory goes back at once, so that the peak is what was held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    kept, recomputed = (
        float(
            subprocess.run(
                [sys.executable, "-c", PEAK, how], env=environment, check=True, capture_output=True
            ).stdout.split()[-1]
        )
        for how in ("keep", "recompute")
    )
    assert recomputed < kept / 4
