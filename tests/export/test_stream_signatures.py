from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import StreamingConfig, TransducerConfig
from tfasr.export.freeze import Freezing
from tfasr.export.saved_model import ExportedModel, custom_operations
from tfasr.export.saving import save_signatures
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.serving.stream_steps import StreamSteps, Window

PARTS = {
    "ctc": {},
    "transducer": {"transducer": TransducerConfig(units=8, embedding_dim=8, joint_dim=8)},
}


@pytest.fixture(scope="module", params=list(PARTS))
def streaming(request, tiny_run, noise, tmp_path_factory):
    """A model that streams, from its SavedModel, and the window of its steps."""
    config = tiny_run.model_config
    encoder = replace(
        config.encoder,
        streaming=StreamingConfig(chunks=(0, 2), left_context=6),
        conv_norm="layer",
    )
    model = build_model(replace(config, encoder=encoder, **PARTS[request.param]))
    initialize(Layout(model), 0)
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(0.3 * noise(*variable.shape, seed=number))
    model.head.kernel.assign(noise(*model.head.kernel.shape, seed=1))
    # Whole utterances are to be heard in the same chunks.
    model.chunks = (2, 0)
    exported = ExportedModel(tiny_run.recogniser(model), tiny_run.extractor, Freezing())
    folder = tmp_path_factory.mktemp("streaming")
    save_signatures(exported, folder, exported.signatures())
    return tf.saved_model.load(str(folder)), exported.window


def streamed(model, window, waveforms, lengths):
    """Texts after each step, and all tokens, of a batch [B, T] of streams."""
    state = model.signatures["stream_start"](streams=tf.constant(len(waveforms)))
    texts, tokens = [], [[] for _ in waveforms]
    for start in range(0, max(lengths), window.shift):
        piece = np.zeros((len(waveforms), window.samples), np.float32)
        heard = waveforms[:, start : start + window.samples]
        piece[:, : heard.shape[1]] = heard
        real = np.clip(np.array(lengths) - start, 0, window.samples).astype(np.int32)
        answer = model.signatures["stream_step"](
            waveforms=tf.constant(piece), num_samples=tf.constant(real), **state
        )
        state = {name: answer[name] for name in state}
        texts.append([text.decode() for text in answer["text"].numpy()])
        for own, row in zip(tokens, answer["tokens"].numpy(), strict=True):
            own += [int(token) for token in row if token >= 0]
    return texts, tokens


def test_a_step_hears_a_chunk_of_whole_frames(streaming):
    # 8 frames of features of 10 ms, whose last window is 25 ms long, at 8,000 Hz.
    assert (streaming[1].shift, streaming[1].samples) == (640, 560 + 200)


def test_steps_give_the_text_of_the_whole(streaming, noise):
    model, window = streaming
    waveforms, lengths = 0.1 * noise(2, 8000), [8000, 4321]
    texts, tokens = streamed(model, window, waveforms, lengths)
    whole = model.signatures["waveforms"](
        waveforms=tf.constant(waveforms), num_samples=tf.constant(lengths)
    )
    assert texts[-1] == [text.decode() for text in whole["text"].numpy()]
    assert any(texts[-1])
    expected = [[int(token) for token in row if token >= 0] for row in whole["tokens"].numpy()]
    assert tokens == expected


def test_a_server_s_steps_give_each_of_two_streams_its_own_text(streaming, noise):
    model, window = streaming
    steps = StreamSteps(model.signatures, asdict(window))
    waveforms, lengths = 0.1 * noise(2, 8000), [8000, 4321]
    states, texts = [steps.start(), steps.start()], ["", ""]
    for start in range(0, 8000, steps.shift):
        heard = [row for row in (0, 1) if start < lengths[row]]
        windows = [
            Window(
                samples=waveforms[row, start : min(start + steps.samples, lengths[row])],
                state=states[row],
            )
            for row in heard
        ]
        for row, answer in zip(heard, steps.answers(windows), strict=True):
            states[row], texts[row] = answer["state"], answer["text"]
    whole, _ = streamed(model, window, waveforms, lengths)
    assert texts == whole[-1]


def test_partial_texts_only_grow(streaming, noise):
    model, window = streaming
    texts, _ = streamed(model, window, 0.1 * noise(1, 8000), [8000])
    for (before,), (after,) in pairwise(texts):
        assert after.startswith(before)


def test_a_stream_uses_stock_operations_only(streaming):
    for name in ("stream_start", "stream_step"):
        assert custom_operations(streaming[0].signatures[name].graph.as_graph_def()) == []


def test_steps_hold_no_norm_that_two_at_once_would_corrupt(streaming):
    model, _ = streaming
    called = model.signatures["stream_step"].graph.as_graph_def().library.function
    operations = {node.op for function in called for node in function.node_def}
    assert "MatMul" in operations
    assert "FusedBatchNormV3" not in operations
