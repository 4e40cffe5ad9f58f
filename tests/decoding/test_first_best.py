import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig, TransducerConfig
from tfasr.decoding.first_best import first_best
from tfasr.decoding.greedy import greedy_tokens
from tfasr.decoding.transducer_greedy import transducer_greedy
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

NUM_FRAMES = [5, 3]


def model_of(units, ctc):
    config = ModelConfig(
        encoder=EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2),
        transducer=TransducerConfig(units=units, embedding_dim=4, joint_dim=6),
        ctc=ctc,
        num_mels=6,
        vocabulary=3,
    )
    model = build_model(config)
    initialize(Layout(model), 0)
    return model


@pytest.fixture
def encoded(noise):
    return tf.constant(5 * noise(2, 5, 8))


def test_ctc_is_heard_where_there_is_no_transducer(encoded):
    model = model_of(units=0, ctc=True)
    expected = greedy_tokens(model.head(encoded), tf.constant(NUM_FRAMES)).to_list()
    assert any(expected)
    assert first_best(model, encoded, tf.constant(NUM_FRAMES)).to_list() == expected


@pytest.mark.parametrize("ctc", [False, True])
def test_a_transducer_is_heard_before_ctc(encoded, ctc):
    model = model_of(units=5, ctc=ctc)
    found = transducer_greedy(model.prediction, model.joint, encoded, tf.constant(NUM_FRAMES))
    lengths = found.num_tokens.numpy().tolist()
    expected = [
        row[:length] for row, length in zip(found.tokens.numpy().tolist(), lengths, strict=True)
    ]
    assert any(expected)
    assert first_best(model, encoded, tf.constant(NUM_FRAMES)).to_list() == expected
