from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import StreamingConfig, TransducerConfig
from tfasr.evaluation.error_rates import count_character_errors
from tfasr.evaluation.transcription import model_transcriber
from tfasr.export.lite import LiteModel, LiteRunner, text_of
from tfasr.export.measuring import Spoken
from tfasr.export.parity import parity
from tfasr.features.fbank import mel_weights
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

TRANSDUCER = TransducerConfig(units=16, embedding_dim=16, joint_dim=16)
PARTS = {"ctc": {}, "transducer": {"transducer": TRANSDUCER}}


@pytest.fixture(scope="module", params=list(PARTS))
def made(request, tiny_run, noise):
    """A streaming model that babbles, and its LiteRT module."""
    config = tiny_run.model_config
    streaming = StreamingConfig(chunks=(4,), left_context=8)
    encoder = replace(config.encoder, streaming=streaming, conv_norm="layer")
    model = build_model(replace(config, encoder=encoder, **PARTS[request.param]))
    initialize(Layout(model), 0)
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(0.3 * noise(*variable.shape, seed=number))
    model.head.kernel.assign(noise(*model.head.kernel.shape, seed=1))
    pieces = tiny_run.tokenizer.pieces
    lite = LiteModel(model, tiny_run.extractor, pieces)
    transcribe = model_transcriber(model, pieces)

    def heard(waveform):
        given = tiny_run.extractor(tf.constant(waveform[None]), tf.constant([len(waveform)]))
        return transcribe(*given).numpy()[0].decode()

    return lite, heard, pieces


@pytest.mark.parametrize(
    ("made", "form"),
    [
        ("ctc", "float"),
        ("ctc", "float16"),
        ("transducer", "float"),
        pytest.param("transducer", "float16", marks=pytest.mark.slow),
    ],
    indirect=["made"],
)
def test_floats_give_the_text_of_the_model_at_once_and_in_steps(made, noise, form):
    lite, heard, pieces = made
    runner = LiteRunner(lite.convert(form), pieces)
    waveforms = [np.float32(0.1) * noise(samples, seed=samples) for samples in (8000, 5321)]
    expected = [heard(waveform) for waveform in waveforms]
    assert any(expected)
    assert [runner.transcribe(waveform) for waveform in waveforms] == expected
    # A chunk is of 4 frames of 40 ms.
    assert [runner.transcribe_stream(waveform, 1280) for waveform in waveforms] == expected


def filterbank_bytes(config):
    """Of the transform's real and imaginary part and the triangles, in float32."""
    triangles = mel_weights(config)
    return 4 * (2 * config.frame_length * len(triangles) + triangles.size)


@pytest.mark.slow
def test_8_bits_give_almost_that_text_at_once_and_in_steps_and_are_smaller(made, tiny_run, noise):
    lite, heard, pieces = made
    converted = lite.convert("int8")
    forms = (converted, lite.convert("float16"), lite.convert("float"))
    # The filterbank keeps 32 bits among kernels of 8, and is most of so small a model.
    whole = filterbank_bytes(tiny_run.extractor.fbank)
    kernels = [len(form) - of for form, of in zip(forms, (whole, whole / 2, whole), strict=True)]
    assert 0 < kernels[0] < kernels[1] < kernels[2]
    runner = LiteRunner(converted, pieces)
    waveforms = [np.float32(0.1) * noise(samples, seed=samples) for samples in (8000, 5321)]
    expected = [heard(waveform) for waveform in waveforms]
    for found in (
        [runner.transcribe(waveform) for waveform in waveforms],
        [runner.transcribe_stream(waveform, 1280) for waveform in waveforms],
    ):
        errors = count_character_errors(expected, found)
        # The weights are noise, so that a small step of a logit turns a token.
        assert errors.errors.sum() / errors.length.sum() < 0.1


def test_tokens_are_joined_like_the_model_s():
    pieces = ["\u2581turn", "\u2581", "on", " off"]
    assert text_of(np.array([[-1, 0, -1, 1, 2, 3, -1]]), pieces) == "turn on off"
    assert text_of(np.array([[0, 1, 3, 3]]), pieces) == "turn off off"
    assert text_of(np.array([[-1]]), pieces) == ""


def test_parity_lists_what_differs():
    said = [
        Spoken(name=n, wav=n.encode(), text=t, seconds=1) for n, t in (("1", "a"), ("2", "b c"))
    ]
    listeners = {
        "checkpoint": lambda utterance: utterance.text,
        "saved_model": lambda utterance: utterance.text,
        "float": lambda utterance: utterance.text.replace("c", "d"),
    }
    found = parity(said, listeners)
    assert found["utterances"] == 2
    assert found["differences"] == {
        "saved_model": [],
        "float": [{"utterance": "2", "checkpoint": "b c", "float": "b d"}],
    }
    rates = {name: values["wer"] for name, values in found["evaluations"].items()}
    assert rates == {"checkpoint": 0, "saved_model": 0, "float": 1 / 3}
