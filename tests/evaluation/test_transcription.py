import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.decoding.greedy import detokenize, greedy_tokens
from tfasr.evaluation.transcription import Hypothesis, model_transcriber, transcribe_batches
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

PIECES = ["?", "▁one", "▁two", "s"]
CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2),
    num_mels=6,
    vocabulary=len(PIECES),
)


@pytest.fixture(scope="module")
def model():
    model = build_model(CONFIG)
    initialize(Layout(model), 0)
    return model


@pytest.fixture(scope="module")
def transcribe(model):
    return model_transcriber(model, PIECES)


def batch_of(*ids, frames=4):
    return {
        "features": tf.zeros([len(ids), frames, 2]),
        "num_frames": tf.range(1, len(ids) + 1),
        "id": tf.constant(ids),
        "text": tf.constant([f"said {i}" for i in ids]),
        "speaker": tf.constant([f"speaker {i}" for i in ids]),
        "domain": tf.constant([""] * len(ids)),
    }


def frames_as_text(features, num_frames):
    return tf.strings.join([tf.strings.as_string(num_frames), tf.constant(" é")])


def test_a_transcriber_writes_what_the_model_s_best_tokens_say(model, transcribe, noise):
    features, num_frames = 3 * noise(2, 40, 6), tf.constant([40, 23])
    logits = model(features, num_frames)
    expected = detokenize(greedy_tokens(logits, tf.constant([10, 6])), PIECES)
    texts = transcribe(features, num_frames)
    assert texts.numpy().tolist() == expected.numpy().tolist()
    assert any(texts.numpy())


def test_padding_changes_no_text(transcribe, noise):
    features = 3 * noise(2, 40, 6)
    alone = transcribe(features[1:, :23], tf.constant([23]))
    together = transcribe(features, tf.constant([40, 23]))
    assert alone.numpy()[0] == together.numpy()[1]


def test_a_transcriber_sees_new_weights(noise):
    model = build_model(CONFIG)
    transcribe = model_transcriber(model, PIECES)
    model.head.kernel.assign(tf.zeros_like(model.head.kernel))
    for piece, text in ((1, b"one"), (2, b"two")):
        model.head.bias.assign(9 * np.eye(5)[piece])
        texts = transcribe(noise(2, 9, 6), tf.constant([9, 0]))
        assert texts.numpy().tolist() == [text, b""]


def test_hypotheses_are_in_the_order_of_the_batches():
    hypotheses = transcribe_batches(frames_as_text, [batch_of("b", "a"), batch_of("c")])
    assert hypotheses == [
        Hypothesis("b", "said b", "1 é", "speaker b", ""),
        Hypothesis("a", "said a", "2 é", "speaker a", ""),
        Hypothesis("c", "said c", "1 é", "speaker c", ""),
    ]


def test_utterances_done_are_reported_after_each_batch():
    done = []
    transcribe_batches(frames_as_text, [batch_of("b", "a"), batch_of("c")], done.append)
    assert done == [2, 3]


def test_no_batches_give_no_hypotheses():
    assert transcribe_batches(frames_as_text, []) == []
