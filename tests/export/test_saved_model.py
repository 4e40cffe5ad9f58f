import gc
import io
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from scipy.signal import resample_poly
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfasr.audio.decoding import wav_bytes
from tfasr.data.pipelines import evaluation_batches, every_example
from tfasr.evaluation.transcription import model_transcriber, transcribe_batches
from tfasr.export.freeze import Freezing
from tfasr.export.saved_model import ExportedModel, custom_operations, to_whole_steps
from tfasr.export.saving import save_signatures
from tfasr.models.building import build_model
from tfasr.models.initialization import initial_value
from tfasr.models.layout import Layout

# Nothing but TensorFlow, as in TensorFlow Serving.
ASK = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
audio = [tf.io.read_file(path) for path in sys.argv[2:]]
texts = model.signatures["serving_default"](audio=tf.stack(audio))["text"].numpy()
loaded = sorted({name.split(".")[0] for name in sys.modules} & {"tfasr", "pipelines"})
print(json.dumps([[text.decode() for text in texts], loaded]))
"""


def save(run, folder, frozen, form="constant"):
    freezing = Freezing(blocks=frozen, form=form, run_seed=run.config.seed)
    exported = ExportedModel(run.recogniser(run.trained_model()), run.extractor, freezing)
    save_signatures(exported, folder, exported.signatures())
    return folder


class Made(dict):
    """Makes what is asked for by a key, once."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, key):
        self[key] = self.make(key)
        return self[key]


@pytest.fixture(scope="module")
def folders(tiny_run, tmp_path_factory):
    """By frozen blocks."""
    root = tmp_path_factory.mktemp("exported")
    return Made(lambda frozen: save(tiny_run, root / f"{len(frozen)}", frozen))


@pytest.fixture(scope="module")
def models(folders):
    return Made(lambda frozen: tf.saved_model.load(str(folders[frozen])))


@pytest.fixture(scope="module")
def texts(tiny_data, tiny_run):
    """What training's own transcriber hears, by id."""
    batches = evaluation_batches(
        tiny_data.source("test"), tiny_data.durations("test"), extractor=tiny_run.extractor
    )
    transcribe = model_transcriber(tiny_run.trained_model(), tiny_run.tokenizer.pieces)
    return {h.utterance_id: h.text for h in transcribe_batches(transcribe, batches)}


@pytest.fixture(scope="module")
def waveforms(tiny_data):
    durations = tiny_data.durations("test")
    examples = every_example(tiny_data.source("test"), durations, (), 8000)
    return {e["id"].decode(): e["waveform"] for e in examples.as_numpy_iterator()}


def wav(waveform, rate=8000):
    return wav_bytes(np.round(waveform * 32768).astype(np.int16), rate)


def ask(model, audio):
    answer = model.signatures["serving_default"](audio=tf.constant(audio, tf.string))
    return [text.decode() for text in answer["text"].numpy()]


def padded(waveforms):
    lengths = [len(waveform) for waveform in waveforms]
    batch = np.zeros((len(lengths), max(lengths)), np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return tf.constant(batch), tf.constant(lengths)


frozen_blocks = pytest.mark.parametrize(
    "frozen", [(), (1,), pytest.param((0, 1), marks=pytest.mark.slow)]
)


def test_the_model_babbles_so_that_texts_mean_something(texts):
    assert all(texts.values())
    assert len(set(texts.values())) > 3


@frozen_blocks
def test_files_give_the_text_that_training_hears(models, texts, waveforms, frozen):
    assert ask(models[frozen], [wav(waveforms[name]) for name in texts]) == list(texts.values())


@frozen_blocks
def test_waveforms_give_the_text_that_training_hears(models, texts, waveforms, frozen):
    batch, lengths = padded([waveforms[name] for name in texts])
    answer = models[frozen].signatures["waveforms"](waveforms=batch, num_samples=lengths)
    assert [text.decode() for text in answer["text"].numpy()] == list(texts.values())


def test_features_are_those_of_training(models, tiny_data, tiny_run, waveforms):
    batches = evaluation_batches(
        tiny_data.source("test"), tiny_data.durations("test"), extractor=tiny_run.extractor
    )
    for batch in batches:
        own, lengths = padded([waveforms[name.decode()] for name in batch["id"].numpy()])
        answer = models[()].signatures["features"](waveforms=own, num_samples=lengths)
        np.testing.assert_array_equal(answer["features"], batch["features"])
        np.testing.assert_array_equal(answer["num_frames"], batch["num_frames"])


def test_one_file_at_a_time_is_heard_like_all_at_once(models, texts, waveforms):
    alone = [ask(models[()], [wav(waveforms[name])])[0] for name in texts]
    assert alone == list(texts.values())


@frozen_blocks
def test_frozen_weights_are_not_among_the_variables(folders, tiny_run, frozen):
    layout = Layout(tiny_run.initial_model())
    kept = sum(entry.size for entry in layout if entry.block not in frozen)
    variables = tf.train.list_variables(str(folders[frozen] / "variables" / "variables"))
    assert sum(math.prod(shape) for name, shape in variables if name.startswith("weights")) == kept
    data = sum(path.stat().st_size for path in (folders[frozen] / "variables").glob("*.data*"))
    # Besides the weights there is only the graph of what is tracked.
    assert 4 * kept <= data < 4 * kept + 10_000


def test_a_rate_that_no_recorder_has_is_refused_by_the_graph(models, waveforms):
    audio = wav(waveforms["test-00"], 7999)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"common sample rate.*7999"):
        ask(models[()], [audio])


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_files_of_other_rates_and_widths_are_heard_like_their_waveforms(
    models, waveforms, rate, subtype
):
    samples = resample_poly(waveforms["test-00"], rate // 8000, 1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    back = resample_poly(samples, 1, rate // 8000).astype(np.float32)
    batch, lengths = padded([back])
    expected = models[()].signatures["waveforms"](waveforms=batch, num_samples=lengths)
    assert ask(models[()], [file.getvalue()]) == [expected["text"].numpy()[0].decode()]


def test_a_transcription_has_tokens_words_times_and_a_score(models, tiny_run, waveforms, texts):
    names = list(texts)
    batch, lengths = padded([waveforms[name] for name in names])
    answer = models[()].signatures["waveforms"](waveforms=batch, num_samples=lengths)
    answer = {name: tensor.numpy() for name, tensor in answer.items()}
    assert set(answer) == {"text", "score", "tokens", "words", "starts", "ends"}
    for row, name in enumerate(names):
        tokens = [int(token) for token in answer["tokens"][row] if token >= 0]
        joined = "".join(tiny_run.tokenizer.pieces[token] for token in tokens)
        assert " ".join(joined.replace("\u2581", " ").split()) == texts[name]
        words = [word.decode() for word in answer["words"][row] if word]
        assert words == texts[name].split()
        starts, ends = (answer[each][row][: len(words)] for each in ("starts", "ends"))
        assert (starts[1:] >= starts[:-1]).all()
        # A frame of the encoding is 40 ms, and rounding of the last one is up.
        assert (ends - starts > 0.039).all()
        assert ends[-1] <= len(waveforms[name]) / 8000 + 0.04
        for each in ("starts", "ends"):
            assert (answer[each][row][len(words) :] == -1).all()
    assert (answer["score"] < 0).all()


@pytest.mark.parametrize("samples", [1, 199, 200])
def test_audio_of_no_more_than_a_window_has_no_text(models, samples):
    batch, lengths = tf.zeros([1, samples]), tf.constant([samples])
    answer = models[()].signatures["waveforms"](waveforms=batch, num_samples=lengths)
    short = answer["text"].numpy().tolist()
    assert ask(models[()], [wav(np.zeros(samples))])[0].encode() == short[0]
    if samples < 200:
        assert short == [b""]


def test_audio_without_samples_has_no_text(models, waveforms, texts):
    empty = tf.zeros([1, 0])
    answer = models[()].signatures["waveforms"](waveforms=empty, num_samples=tf.constant([0]))
    assert answer["text"].numpy().tolist() == [b""]
    audio = [wav(np.zeros(0)), wav(waveforms["test-00"])]
    assert ask(models[()], audio) == ["", texts["test-00"]]


@pytest.mark.parametrize(("samples", "padded"), [(0, 0), (1, 4), (4, 4), (5, 8)])
def test_lengths_are_padded_to_whole_steps(samples, padded):
    waveforms = tf.ones([2, samples])
    expected = np.pad(waveforms, [(0, 0), (0, padded - samples)])
    np.testing.assert_array_equal(to_whole_steps(waveforms, 4), expected)


def test_channels_are_averaged(models, waveforms, texts):
    mono = np.round(waveforms["test-00"] * 32768).astype(np.int16)
    stereo = np.stack([mono, mono], -1)
    assert ask(models[()], [wav_bytes(stereo, 8000)]) == [texts["test-00"]]


@frozen_blocks
def test_only_stock_operations_are_used(models, frozen):
    for signature in models[frozen].signatures.values():
        graph = signature.graph.as_graph_def()
        assert len(graph.library.function) > 0
        assert custom_operations(graph) == []


@pytest.mark.parametrize("nested", [False, True])
def test_a_python_operation_is_found(nested):
    def call(x):
        return tf.py_function(lambda value: value, [x], tf.float32)

    outer = tf.function(lambda x: tf.function(call)(x) if nested else call(x))
    function = outer.get_concrete_function(tf.TensorSpec([]))
    assert custom_operations(function.graph.as_graph_def()) == ["EagerPyFunc"]


def test_the_model_needs_tensorflow_alone(folders, texts, waveforms, tmp_path):
    for name in texts:
        (tmp_path / f"{name}.wav").write_bytes(wav(waveforms[name]))
    files = [str(tmp_path / f"{name}.wav") for name in texts]
    # Isolated and away from the checkout, so that nothing of ours is found by chance.
    command = [sys.executable, "-I", "-W", "ignore", "-c", ASK, str(folders[(1,)]), *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert json.loads(done.stdout) == [list(texts.values()), []]


@pytest.fixture(scope="module")
def formed(tiny_run, tmp_path_factory):
    """Folders of models whose block 1 has each form."""
    root = tmp_path_factory.mktemp("formed")
    return Made(lambda form: save(tiny_run, root / form, (1,), form))


@pytest.fixture(scope="module")
def loaded(formed):
    """Those models."""
    return Made(lambda form: tf.saved_model.load(str(formed[form])))


# What a pruned model gives is in tests/export/test_freeze.py; its export is like any other's.
forms = pytest.mark.parametrize(
    "form", ["seed", "int8", pytest.param("pruned", marks=pytest.mark.slow)]
)


def by_session(folder, audio):
    """Asks as TensorFlow Serving does."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = meta.signature_def["serving_default"]
        fed = {signature.inputs["audio"].name: audio}
        return [t.decode() for t in session.run(signature.outputs["text"].name, fed)]


@forms
def test_a_form_gives_the_text_of_the_settled_model(
    formed, loaded, tiny_run, tiny_data, waveforms, texts, form
):
    settled = tiny_run.trained_model()
    Freezing(blocks=(1,), form=form, run_seed=tiny_run.config.seed).settle(settled)
    batches = evaluation_batches(
        tiny_data.source("test"), tiny_data.durations("test"), extractor=tiny_run.extractor
    )
    transcribe = model_transcriber(settled, tiny_run.tokenizer.pieces)
    expected = {h.utterance_id: h.text for h in transcribe_batches(transcribe, batches)}
    audio = [wav(waveforms[name]) for name in expected]
    assert ask(loaded[form], audio) == list(expected.values())
    assert by_session(formed[form], audio) == list(expected.values())
    if form != "int8":
        assert expected != texts


@pytest.mark.parametrize("form", ["seed", "int8"])
def test_a_rebuilt_block_is_in_no_variable(folders, formed, form):
    def stored(folder):
        return {
            tuple(shape)
            for name, shape in tf.train.list_variables(str(folder / "variables" / "variables"))
            if name.startswith("weights")
        }

    def size(folder):
        return sum(path.stat().st_size for path in (folder / "variables").glob("*.data*"))

    assert stored(formed[form]) <= stored(folders[(1,)])
    # A rebuilt weight is tracked, which takes some bytes by the name.
    assert size(formed[form]) < size(folders[(1,)]) + 10_000


def test_a_model_from_seeds_draws_what_the_run_would(loaded, tiny_run):
    drawn = [
        initial_value(entry, tiny_run.config.seed, 1).numpy()
        for entry in Layout(tiny_run.initial_model()).of_block(1)
        if entry.role.endswith("kernel")
    ]
    values = [
        tf.raw_ops.ReadVariableOp(resource=each.resource_handle, dtype=tf.float32).numpy()
        for each in loaded["seed"].resources
    ]
    assert len(values) == len(drawn) > 8
    for value in values:
        assert any(np.array_equal(value, own) for own in drawn)


def test_two_loads_of_a_model_from_seeds_do_not_disturb_each_other(formed, loaded, waveforms):
    audio = [wav(waveforms["test-00"])]
    first = loaded["seed"]
    before = ask(first, audio)
    second = tf.saved_model.load(str(formed["seed"]))
    assert ask(second, audio) == before
    del second
    gc.collect()
    assert ask(first, audio) == before


@pytest.mark.slow
def test_the_forms_take_ever_less_room(tiny_run, tmp_path):
    config = tiny_run.model_config
    wide = replace(config, encoder=replace(config.encoder, num_blocks=1, dim=96))
    sizes = {}
    for form in ("constant", "int8", "seed", "pruned"):
        recogniser, freezing = (
            tiny_run.recogniser(build_model(wide)),
            Freezing(form=form, blocks=(0,)),
        )
        exported = ExportedModel(recogniser, tiny_run.extractor, freezing)
        folder = tmp_path / form
        save_signatures(exported, folder, exported.signatures())
        sizes[form] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    kernels = sum(e.size for e in Layout(build_model(wide)).of_block(0) if "kernel" in e.role)
    # A kernel takes 4, 1 or no bytes a weight; rebuilt ones bring functions of up to 10 kB each.
    assert sizes["constant"] - sizes["int8"] > 2 * kernels
    assert sizes["int8"] - sizes["seed"] > 0.5 * kernels
    assert sizes["seed"] > sizes["pruned"]


@forms
def test_a_form_uses_stock_operations_only(formed, form):
    saved = SavedModel.FromString((formed[form] / "saved_model.pb").read_bytes())
    assert custom_operations(saved.meta_graphs[0].graph_def) == []


@pytest.mark.parametrize(
    "frozen", [(), (1,)], ids=["joined_to_one_operation", "plain_beside_constants"]
)
def test_a_model_holds_no_norm_that_two_calls_at_once_would_corrupt(
    frozen, folders, optimised_operations
):
    model = tf.saved_model.load(str(folders[frozen]))
    operations = optimised_operations(
        model.signatures["waveforms"],
        waveforms=tf.zeros([1, 4000]),
        num_samples=tf.constant([4000]),
    )
    assert ("_MklLayerNorm" in operations) == (not frozen)
    assert "FusedBatchNormV3" not in operations
