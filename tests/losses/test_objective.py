from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import DecoderConfig, EncoderConfig, ModelConfig, TransducerConfig
from tfasr.configs.objective import JointObjective
from tfasr.losses.ctc import ctc_loss
from tfasr.losses.joint import decoder_losses, joint_loss
from tfasr.losses.objective import model_losses
from tfasr.losses.transducer import transducer_loss
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

ENCODER = EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2)
OBJECTIVE = JointObjective(ctc_weight=0.4, reverse_weight=0.2)


def model_of(left, right):
    decoder = DecoderConfig(num_blocks_left=left, num_blocks_right=right, num_heads=2, ff_units=8)
    model = build_model(ModelConfig(encoder=ENCODER, num_mels=6, vocabulary=3, decoder=decoder))
    initialize(Layout(model), 0)
    return model


def transducer_of(ctc, dropout=0.0):
    config = ModelConfig(
        encoder=replace(ENCODER, dropout=0.0),
        transducer=TransducerConfig(units=5, embedding_dim=4, joint_dim=6, dropout=dropout),
        ctc=ctc,
        num_mels=6,
        vocabulary=3,
    )
    model = build_model(config)
    initialize(Layout(model), 0)
    return model


def transducer_losses_of(model, batch, encoded):
    tokens, num_tokens = batch["tokens"], batch["num_tokens"]
    predicted = model.prediction(tokens, num_tokens)
    frames = tf.constant([4, 1])
    return transducer_loss(model.joint, encoded, frames, predicted, tokens, num_tokens)


@pytest.fixture
def batch(noise):
    return {
        "features": tf.constant(noise(2, 16, 6)),
        "num_frames": tf.constant([16, 4]),
        "tokens": tf.constant([[1, 2], [0, 1]]),
        "num_tokens": tf.constant([2, 2]),
    }


def test_without_a_decoder_the_loss_is_ctc(batch):
    model = model_of(0, 0)
    losses, short, encoded, frames = model_losses(model, batch, OBJECTIVE)
    expected = ctc_loss(model.head(encoded), frames, batch["tokens"], batch["num_tokens"])
    np.testing.assert_array_equal(losses, expected)
    assert frames.numpy().tolist() == [4, 1]
    assert short.numpy().tolist() == [False, True]


@pytest.mark.parametrize("right", [0, 1])
def test_with_a_decoder_its_losses_are_joined(batch, right):
    model = model_of(1, right)
    losses, short, encoded, _ = model_losses(model, batch, OBJECTIVE)
    tokens, num_tokens = batch["tokens"], batch["num_tokens"]
    ctc = ctc_loss(model.head(encoded), tf.constant([4, 1]), tokens, num_tokens)
    mask = model.encode(batch["features"], batch["num_frames"])[1]
    sides = model.decoder(encoded, mask, tokens, num_tokens)
    weights = OBJECTIVE if right else replace(OBJECTIVE, reverse_weight=0.0)
    expected = joint_loss(weights, ctc, *decoder_losses(sides, tokens, num_tokens, 0.1))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert short.numpy().tolist() == [False, True]


def test_dropout_of_encoder_and_decoder_follows_from_the_seed(batch):
    model = model_of(1, 1)
    seeds = (None, (1, 2), (1, 2), (3, 4))
    losses = [
        model_losses(model, batch, OBJECTIVE, seed and tf.constant(seed))[0].numpy()
        for seed in seeds
    ]
    np.testing.assert_array_equal(losses[1], losses[2])
    assert not np.allclose(losses[0], losses[1])
    assert not np.allclose(losses[1], losses[3])


def test_a_transducer_s_loss_is_its_own_and_no_utterance_is_too_short(batch):
    model = transducer_of(ctc=False)
    losses, short, encoded, _ = model_losses(model, batch, OBJECTIVE)
    np.testing.assert_allclose(losses, transducer_losses_of(model, batch, encoded), rtol=1e-6)
    assert short.numpy().tolist() == [False, False]


def test_a_transducer_s_loss_is_joined_with_ctc(batch):
    model = transducer_of(ctc=True)
    losses, short, encoded, frames = model_losses(model, batch, OBJECTIVE)
    ctc = ctc_loss(model.head(encoded), frames, batch["tokens"], batch["num_tokens"])
    expected = 0.4 * ctc + 0.6 * transducer_losses_of(model, batch, encoded)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert short.numpy().tolist() == [False, True]


def test_fastemit_changes_the_gradient_and_not_the_loss(batch):
    model = transducer_of(ctc=False)
    losses, gradients = [], []
    for fastemit in (0.0, 0.5):
        with tf.GradientTape() as tape:
            cost = model_losses(model, batch, JointObjective(fastemit=fastemit)).losses
        losses.append(cost.numpy())
        gradients.append(tape.gradient(cost, model.joint.output_dense.bias).numpy())
    np.testing.assert_array_equal(*losses)
    assert not np.allclose(*gradients, rtol=1e-2)


def test_dropout_of_the_prediction_network_follows_from_the_seed(batch):
    model = transducer_of(ctc=False, dropout=0.5)
    seeds = (None, (1, 2), (1, 2), (3, 4))
    losses = [
        model_losses(model, batch, OBJECTIVE, seed and tf.constant(seed)).losses.numpy()
        for seed in seeds
    ]
    np.testing.assert_array_equal(losses[1], losses[2])
    assert not np.allclose(losses[0], losses[1])
    assert not np.allclose(losses[1], losses[3])
