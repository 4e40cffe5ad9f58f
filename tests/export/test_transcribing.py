from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.evaluation import DecodingConfig
from tfasr.configs.model import DecoderConfig, TransducerConfig
from tfasr.decoding.language_model import NoLanguageModel
from tfasr.evaluation.decoders import search_decoder
from tfasr.evaluation.search import Search
from tfasr.export.transcribing import transcriber
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

SIGNATURE = [tf.TensorSpec([None, None, 8], tf.float32), tf.TensorSpec([None], tf.int32)]


@pytest.fixture(scope="module")
def recognisers(tiny_run, noise):
    """Models that babble, with attention decoders and with a transducer."""
    parts = {
        "decoder": {"decoder": DecoderConfig(num_blocks_left=1, num_blocks_right=1)},
        "transducer": {"transducer": TransducerConfig(units=8, embedding_dim=8, joint_dim=8)},
    }
    made = {}
    for name, settings in parts.items():
        encoder = replace(tiny_run.model_config.encoder, num_blocks=1)
        model = build_model(replace(tiny_run.model_config, encoder=encoder, **settings))
        initialize(Layout(model), 0)
        for number, variable in enumerate(model.trainable_variables):
            variable.assign_add(0.3 * noise(*variable.shape, seed=number))
        made[name] = tiny_run.recogniser(model)
    return made


@pytest.mark.parametrize(
    ("which", "config"),
    [
        ("decoder", DecodingConfig(kind="prefix_beam", beam=4)),
        ("decoder", DecodingConfig(kind="rescoring", beam=4)),
        ("transducer", DecodingConfig(kind="transducer", beam=3)),
    ],
)
def test_a_search_in_the_graph_is_that_of_evaluation(recognisers, noise, which, config):
    recogniser = recognisers[which]
    search = Search(
        recognisers=[recogniser],
        config=replace(config, nbest=1),
        language_model=NoLanguageModel(),
        max_tokens=0,
    )
    features, num_frames = tf.constant(noise(2, 60, 8)), tf.constant([60, 37])
    expected = search_decoder(search)((features,), (num_frames,))
    transcribe = tf.function(
        transcriber(recogniser, config), input_signature=SIGNATURE, autograph=False
    )
    got = transcribe(features, num_frames)
    np.testing.assert_array_equal(got["text"], expected.texts[:, 0])
    assert any(got["text"].numpy())
    np.testing.assert_allclose(got["score"], expected.scores[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(got["words"], expected.times.words.to_tensor(""))
    np.testing.assert_allclose(got["starts"], expected.times.start.to_tensor(-1.0))
    np.testing.assert_allclose(got["ends"], expected.times.end.to_tensor(-1.0))


def test_greedy_words_are_timed_by_the_frames_of_their_tokens(tiny_run):
    recogniser = tiny_run.recogniser(tiny_run.trained_model())
    pieces = ["\u2581a", "b", "\u2581c"]
    model = recogniser.model
    # Only the bias speaks: token 0 in every frame.
    model.head.kernel.assign(tf.zeros_like(model.head.kernel))
    model.head.bias.assign(5 * np.eye(model.head.bias.shape[0])[0])
    transcribe = tf.function(
        transcriber(replace(recogniser, pieces=pieces), DecodingConfig()),
        input_signature=SIGNATURE,
        autograph=False,
    )
    got = transcribe(tf.zeros([1, 16, 8]), tf.constant([16]))
    assert got["words"].numpy().tolist() == [[b"a"]]
    assert got["tokens"].numpy().tolist() == [[0]]
    np.testing.assert_allclose([got["starts"][0, 0], got["ends"][0, 0]], [0, 0.16], atol=1e-6)
    others = model.head.kernel.shape[1] - 1
    np.testing.assert_allclose(got["score"], [4 * (5 - np.log(np.exp(5) + others))], rtol=1e-4)


def test_a_transducer_s_path_scores_as_greedy(recognisers, noise):
    transcribe = tf.function(
        transcriber(recognisers["transducer"], DecodingConfig()),
        input_signature=SIGNATURE,
        autograph=False,
    )
    got = transcribe(tf.constant(noise(2, 60, 8)), tf.constant([60, 0]))
    assert got["text"].numpy()[1] == b""
    assert (got["starts"].numpy()[1] == -1).all()
    assert got["score"].numpy()[0] < 0 == got["score"].numpy()[1]


def test_a_decoder_that_the_model_lacks_is_named(tiny_run):
    recogniser = tiny_run.recogniser(tiny_run.trained_model())
    with pytest.raises(ValueError, match=r"decoder\.kind=transducer needs a model with"):
        transcriber(recogniser, DecodingConfig(kind="transducer"))
