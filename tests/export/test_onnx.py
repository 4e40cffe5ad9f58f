import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import TransducerConfig
from tfasr.evaluation.transcription import model_transcriber
from tfasr.export.onnx import OnnxRunner, convert_onnx, require_onnx
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

pytest.importorskip("tf2onnx", reason="ONNX is optional")


@pytest.mark.parametrize("trained", [0.3, 0.0], ids=["trained", "biases_of_zero"])
def test_utterances_heard_together_give_the_text_of_each_alone(tiny_run, noise, trained):
    # Two blocks are heard in tests/pipelines/test_export.py.
    encoder = replace(tiny_run.model_config.encoder, num_blocks=1)
    model = build_model(replace(tiny_run.model_config, encoder=encoder))
    initialize(Layout(model), 0)
    # Weights of noise, so that the model babbles.
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(trained * noise(*variable.shape, seed=number))
    model.head.kernel.assign(noise(*model.head.kernel.shape, seed=1))
    pieces = tiny_run.tokenizer.pieces
    transcribe = model_transcriber(model, pieces)
    waveforms = [np.float32(0.1) * noise(samples, seed=samples) for samples in (8000, 5321)]
    expected = []
    for waveform in waveforms:
        given = tiny_run.extractor(tf.constant(waveform[None]), tf.constant([len(waveform)]))
        expected.append(transcribe(*given).numpy()[0].decode())
    assert all(expected)
    runner = OnnxRunner(convert_onnx(model, tiny_run.extractor), pieces)
    assert runner.transcribe(waveforms) == expected
    assert runner.transcribe(waveforms[1:]) == expected[1:]


def test_a_transducer_is_refused(tiny_run):
    transducer = TransducerConfig(units=4, embedding_dim=4, joint_dim=4)
    model = build_model(replace(tiny_run.model_config, transducer=transducer))
    with pytest.raises(ValueError, match=r"hears by CTC, .* got a transducer"):
        convert_onnx(model, tiny_run.extractor)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"needs tf2onnx; pip install 'tfasr\[onnx\]'"):
        require_onnx()
