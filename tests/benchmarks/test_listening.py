from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import FbankConfig
from tfasr.configs.model import EncoderConfig, ModelConfig, StreamingConfig, TransducerConfig
from tfasr.decoding.first_best import first_best
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.models.building import build_model

listening = pytest.importorskip(
    "benchmarks.listening", reason="benchmarks are importable from the repository's own folder only"
)

# Windows of 200 samples, 80 apart.
EXTRACTOR = FeatureExtractor(
    FbankConfig(sample_rate=8000, num_mels=6), FeatureStatistics((12.0,) * 6, (1.0,) * 6)
)
CTC = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=1,
        dim=8,
        num_heads=2,
        conv_kernel=3,
        conv_norm="layer",
        order="convolution_first",
        streaming=StreamingConfig(chunks=(2,), left_context=4),
    ),
    num_mels=6,
    vocabulary=5,
)
TRANSDUCER = replace(
    CTC, transducer=TransducerConfig(units=8, embedding_dim=8, joint_dim=8), ctc=False
)


def make_listener(config, noise):
    model = build_model(config)
    for number, weight in enumerate(model.weights):
        weight.assign(noise(*weight.shape, seed=number))
    return listening.Listener(model, EXTRACTOR, 2)


def heard_in(listener, waveform, sizes):
    listener.restart()
    pieces = np.split(waveform, np.cumsum(sizes))
    return [each for piece in pieces for each in listener.hear(piece)] + listener.finish()


@pytest.mark.parametrize("config", [CTC, TRANSDUCER])
def test_tokens_of_a_stream_are_those_of_the_whole_utterance(config, noise):
    listener = make_listener(config, noise)
    waveform = noise(9000) * 10 ** (noise(18).repeat(500) - 2)  # As loud as it likes.
    heard = heard_in(listener, waveform, [1, 0, 3000, 77, 2500])
    features, num_frames = EXTRACTOR(waveform[None], tf.constant([9000]))
    model = listener.model
    encoded, _ = model.encode(features, num_frames, chunk=2)
    [whole] = first_best(model, encoded, model.encoded_frames(num_frames)).to_list()
    assert len(whole) > 3
    assert [token for each in heard for token in each.tokens] == whole


def test_a_listener_forgets_the_stream_before(noise):
    listener, waveform = make_listener(CTC, noise), 0.1 * noise(2000)
    once, again = (heard_in(listener, waveform, []) for _ in range(2))
    for before, after in zip(once, again, strict=True):
        np.testing.assert_array_equal(after.log_probs, before.log_probs)


def test_a_chunk_comes_with_its_last_sample(noise):
    listener, waveform = make_listener(CTC, noise), 0.1 * noise(1400)
    # Eight windows each: 7 shifts and a window, and 8 shifts more.
    assert listener.arrivals(1400) == [760, 1400]
    assert [len(listener.hear(piece)) for piece in np.split(waveform, [759, 760, 1399])] == [
        0,
        1,
        0,
        1,
    ]


def test_a_stream_too_short_for_a_window_gives_nothing(noise):
    assert heard_in(make_listener(CTC, noise), 0.1 * noise(199), []) == []
