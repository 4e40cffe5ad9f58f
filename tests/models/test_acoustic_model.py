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
    StreamingConfig,
    TransformerConfig,
)
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.layout import Layout, weights_hash
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
STREAMING = replace(
    CONFIG,
    encoder=replace(
        CONFIG.encoder,
        conv_norm="cumulative_group",
        order="convolution_first",
        stack_at=1,
        streaming=StreamingConfig(chunks=(4, 0, 2), left_context=4),
    ),
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
    model = AcousticModel(ConvSubsampling(1, name="subsampling"), [], vocabulary=2)
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


@pytest.mark.parametrize("config", [CONFIG, DEEP, TRANSFORMER, CITRINET, STREAMING])
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
    stacked = build_model(STREAMING).encoded_frames(frames)
    assert stacked.numpy().tolist() == [0, 1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("config", [DEEP, TRANSFORMER, CITRINET, STREAMING])
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
    np.testing.assert_allclose(
        model.head(model.conclude(x, mask)), model(features, num_frames), atol=1e-6
    )


@pytest.mark.parametrize("config", [DEEP, TRANSFORMER, CITRINET, STREAMING])
def test_a_model_comes_back_from_its_configuration(noise, config):
    model = build_model(config)
    again = AcousticModel.from_config(model.get_config())
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


def losses_and_gradients(model, features, num_frames, seed):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(features, num_frames, seed=seed)))
    return loss, tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize(
    ("config", "precision", "in_graph"),
    [
        (CONFIG, "float32", False),
        pytest.param(
            replace(DEEP, encoder=replace(DEEP.encoder, num_blocks=1)),
            "float32",
            True,
            marks=pytest.mark.slow,
        ),
        (DEEP, "mixed_bfloat16", False),
        (
            replace(STREAMING, encoder=replace(STREAMING.encoder, num_blocks=1, stack_at=0)),
            "float32",
            True,
        ),
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
    # Of the greatest of all: what a norm takes out again has a gradient of rounding alone.
    atol = 1e-6 * max(np.abs(gradient).max() for gradient in kept)
    for one, other in zip(kept, recomputed, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=atol)


def test_recomputing_leaves_inference_and_the_layout_as_they_are(noise):
    models = [
        build_model(replace(DEEP, encoder=replace(DEEP.encoder, recompute=recompute)))
        for recompute in (False, True)
    ]
    models[1].set_weights(models[0].get_weights())
    assert weights_hash(Layout(models[1])) == weights_hash(Layout(models[0]))
    one, other = (model(noise(1, 20, 7), tf.constant([20])) for model in models)
    np.testing.assert_array_equal(one, other)


def encoding_of(model, features, lengths, chunk=None, seed=None):
    return model.encode(tf.constant(features), tf.constant(lengths), seed, chunk)[0].numpy()


def frames_heard(model, noise, encoded, chunk):
    """Which frames of features a frame of the encoding hears, of 64."""
    features = tf.constant(noise(1, 64, 6))
    with tf.GradientTape() as tape:
        tape.watch(features)
        out = model.encode(features, tf.constant([64]), chunk=chunk)[0][:, encoded]
    return np.flatnonzero(np.any(tape.gradient(out, features)[0], -1))


@pytest.mark.parametrize(
    ("chunk", "encoded", "last"), [(2, 0, 7), (2, 3, 31), (4, 3, 31), (0, 3, 63)]
)
def test_a_frame_hears_nothing_behind_its_chunk(noise, with_noise_weights, chunk, encoded, last):
    # A chunk of two is eight frames of features, and one of the encoding.
    model = with_noise_weights(build_model(STREAMING), (None, None, 6))
    assert frames_heard(model, noise, encoded, chunk).max() == last


def test_a_frame_sees_as_far_back_as_the_context_of_each_block(noise, with_noise_weights):
    streaming = StreamingConfig(chunks=(2,), left_context=2)
    encoder = replace(STREAMING.encoder, conv_norm="layer", conv_kernel=1, streaming=streaming)
    model = build_model(replace(STREAMING, encoder=encoder))
    model = with_noise_weights(model, (None, None, 6))
    # Frame 7 of the encoding sees 6, after stacking; which are frames 12 to 15 before it, and
    # those see 10; which hears three frames of features before its own four.
    assert frames_heard(model, noise, 7, 2).tolist() == list(range(10 * 4 - 3, 64))


def test_the_first_chunk_is_taken_where_none_is_asked_for(noise, with_noise_weights):
    model = with_noise_weights(build_model(STREAMING), (None, None, 6))
    features, lengths = noise(2, 41, 6), [41, 22]
    given = encoding_of(model, features, lengths)
    by_chunk = [encoding_of(model, features, lengths, chunk) for chunk in (4, 2, 0)]
    np.testing.assert_array_equal(given, by_chunk[0])
    assert all(np.abs(other - given).max() > 1e-3 for other in by_chunk[1:])


def test_a_chunk_may_be_a_tensor(noise, with_noise_weights):
    model = with_noise_weights(build_model(STREAMING), (None, None, 6))
    features, lengths = tf.constant(noise(2, 41, 6)), tf.constant([41, 22])

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    def encode(chunk):
        return model.encode(features, lengths, chunk=chunk)[0]

    for chunk in (0, 2, 6):
        expected = encoding_of(model, features, lengths, chunk)
        np.testing.assert_allclose(encode(tf.constant(chunk)), expected, atol=1e-5)


def test_the_seed_of_a_batch_draws_its_chunk(noise, with_noise_weights):
    config = replace(STREAMING, encoder=replace(STREAMING.encoder, dropout=0.0))
    model = with_noise_weights(build_model(config), (None, None, 6))
    features, lengths = noise(2, 41, 6), [41, 22]
    by_chunk = [encoding_of(model, features, lengths, chunk) for chunk in (4, 0, 2)]
    drawn = []
    for number in (*range(12), 0):
        out = encoding_of(model, features, lengths, seed=tf.constant([7, number]))
        distances = [np.abs(out - other).max() for other in by_chunk]
        assert min(distances) < 1e-5
        drawn.append(int(np.argmin(distances)))
    assert set(drawn) == {0, 1, 2}
    assert drawn[-1] == drawn[0]


def test_blocks_called_with_what_is_visible_make_up_the_encoding(noise, with_noise_weights):
    model = with_noise_weights(build_model(STREAMING), (None, None, 6))
    features, lengths = tf.constant(noise(2, 41, 6)), tf.constant([41, 22])
    x, mask = model.subsample(features, lengths)
    for index, block in enumerate(model.blocks):
        x = block(x, mask=mask, **model.visible(index, tf.shape(x)[1], 2))
        mask = block.compute_mask(x, mask)
    np.testing.assert_allclose(x, model.encode(features, lengths, chunk=2)[0], atol=1e-6)


@pytest.mark.parametrize("config", [CONFIG, TRANSFORMER, CITRINET])
def test_a_model_that_does_not_stream_has_no_masks_and_no_chunks(noise, config):
    model = build_model(config)
    assert model.visible(0, tf.constant(5)) == {}
    with pytest.raises(ValueError, match="does not stream has no chunks; got chunk=2"):
        model.encode(noise(1, 9, config.num_mels), tf.constant([9]), chunk=2)


@pytest.mark.parametrize("chunk", [3, -2])
def test_chunks_that_the_stacking_does_not_divide_are_named(noise, chunk):
    with pytest.raises(ValueError, match=f"must be 0 or a multiple of 2; got chunk={chunk}"):
        build_model(STREAMING).encode(noise(1, 9, 6), tf.constant([9]), chunk=chunk)


PEAK = """
import resource, sys
import tensorflow as tf
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.models.building import build_model

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
