import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.artifacts.files import read_json, write_json
from tfasr.configs.distribution import DistributionConfig
from tfasr.configs.loading import read_yaml
from tfasr.configs.model import StreamingConfig
from tfasr.configs.training import AveragingConfig, OptimizerConfig
from tfasr.data.prepared import PreparedData
from tfasr.models.layout import Layout, weights_hash
from tfasr.text.tokenizer import Tokenizer
from tfasr.training.checkpoints import Progress
from tfasr.training.run import Run


@pytest.fixture
def config(tiny_config, tmp_path):
    return tiny_config(tmp_path / "run")


def test_a_run_takes_bins_and_vocabulary_from_the_data(config, tiny_data):
    run = Run.create(config, tiny_data)
    assert run.model_config.num_mels == 8
    assert run.model_config.vocabulary == Tokenizer(tiny_data.tokenizer).vocabulary


def test_settings_are_read_as_they_were_written(config, tiny_data):
    config = replace(config, domains=("close", "phone"), precision="mixed_bfloat16", seed=7)
    run = Run.create(config, tiny_data)
    model = replace(config.model, num_mels=8, vocabulary=run.tokenizer.vocabulary)
    assert Run(config.run).config == replace(config, model=model)
    assert list(read_yaml(config.run / "config.yaml")) == ["train"]


def test_a_run_hears_as_its_data_was_prepared(config, tiny_data):
    run = Run.create(config, tiny_data)
    assert run.extractor.fbank == tiny_data.fbank
    assert run.extractor.statistics == tiny_data.statistics


def test_a_run_needs_its_data_no_more(config, tiny_data, tmp_path):
    data = PreparedData(shutil.copytree(tiny_data.folder, tmp_path / "data"))
    Run.create(replace(config, data=data.folder), data)
    shutil.rmtree(data.folder)
    run = Run(config.run)
    assert run.tokenizer.decode(run.tokenizer.encode("a e")) == "a e"
    assert run.extractor.statistics == tiny_data.statistics
    assert run.initial_model().vocabulary == run.tokenizer.vocabulary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "got seed=1, there it is 0"),
        ({"optimizer": OptimizerConfig(peak=1.0)}, "optimizer"),
        ({"precision": "mixed_bfloat16"}, "precision=mixed_bfloat16, there it is float32"),
        ({"domains": ("close",)}, "domains"),
    ],
)
def test_other_settings_are_refused_by_name(config, tiny_data, changes, message):
    Run.create(config, tiny_data)
    with pytest.raises(ValueError, match=f"run: holds a run with other settings; .*{message}"):
        Run.create(replace(config, **changes), tiny_data)


def test_a_run_whose_making_was_interrupted_is_made_anew(config, tiny_data):
    config.run.mkdir()
    (config.run / "features.json").write_text("{}")
    run = Run.create(config, tiny_data)
    assert run.extractor.fbank == tiny_data.fbank


def test_a_run_is_not_continued_on_data_with_other_tokens(config, tiny_data, tmp_path):
    Run.create(config, tiny_data)
    folder = shutil.copytree(tiny_data.folder, tmp_path / "data")
    model = tiny_data.tokenizer.read_bytes()
    # Two letters change places: as many pieces, other ids.
    swapped = model.replace(b"\x01a", b"\x01#").replace(b"\x01e", b"\x01a")
    (folder / "tokenizer.model").write_bytes(swapped.replace(b"\x01#", b"\x01e"))
    assert Tokenizer(folder / "tokenizer.model").encode("a") != Tokenizer(
        tiny_data.tokenizer
    ).encode("a")
    with pytest.raises(ValueError, match="tokenizer"):
        Run.create(replace(config, data=folder), PreparedData(folder))


def test_a_prolonged_run_is_repeated_with_its_last_steps(config, tiny_data):
    Run.create(config, tiny_data)
    averaging = AveragingConfig(of="last", count=2)
    longer = Run.create(replace(config, steps=99, averaging=averaging), tiny_data)
    assert (longer.config.steps, longer.config.averaging) == (99, averaging)
    assert Run.create(config, tiny_data).config.steps == 99


def test_a_run_tells_the_longest_utterance_that_it_is_trained_on(config, tiny_data):
    longest = max(tiny_data.durations("train"))
    assert Run.create(config, tiny_data).longest_seconds == longest
    batching = replace(config.batching, max_seconds=longest - 0.01)
    shorter = Run.create(replace(config, run=config.run / "short", batching=batching), tiny_data)
    assert shorter.longest_seconds == max(d for d in tiny_data.durations("train") if d < longest)


def test_a_run_that_does_not_tell_is_taken_at_its_limit(config, tiny_data):
    run = Run.create(config, tiny_data)
    front_end = read_json(run.folder / "features.json")
    front_end.pop("longest_seconds")
    write_json(run.folder / "features.json", front_end)
    assert run.longest_seconds == config.batching.max_seconds


def test_any_hosts_may_go_on_with_a_run(config, tiny_data):
    Run.create(config, tiny_data)
    hosts = DistributionConfig(hosts=("a:1",))
    again = Run.create(replace(config, distribution=hosts), tiny_data)
    assert again.config.distribution == DistributionConfig()


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="must be a run's folder, made by `tfasr train`"):
        _ = Run(tmp_path).config


def test_the_first_weights_follow_from_the_seed(config, tiny_data, tmp_path):
    run = Run.create(config, tiny_data)
    other = Run.create(replace(config, seed=1, run=tmp_path / "other"), tiny_data)
    first = weights_hash(Layout(run.initial_model()))
    assert weights_hash(Layout(Run(config.run).initial_model())) == first
    assert weights_hash(Layout(other.initial_model())) != first


def test_trained_weights_are_the_best_ones_or_those_asked_for(config, tiny_data):
    run = Run.create(config, tiny_data)
    model = run.initial_model()
    for step, rate in ((1, 0.9), (2, 0.1), (3, 0.5)):
        model.head.bias.assign(np.full(model.head.bias.shape, step))
        progress = Progress(step=step, validation={"wer": rate})
        run.checkpoints.save(tf.train.Checkpoint(model=model), progress)
    assert run.trained_model().head.bias.numpy()[0] == 2
    assert run.trained_model(3).head.bias.numpy()[0] == 3
    with pytest.raises(ValueError, match="step-00000001: no such checkpoint"):
        run.trained_model(1)


@pytest.mark.parametrize(
    ("kind", "steps", "bias"), [("best", [1, 3], 2.0), ("last", [2, 3], 2.5), ("none", [], 2.0)]
)
def test_the_model_is_an_average_where_one_is_asked_for(config, tiny_data, kind, steps, bias):
    config = replace(config, averaging=AveragingConfig(of=kind, count=2))
    run = Run.create(config, tiny_data)
    model = run.initial_model()
    for step, loss, rate in ((1, 0.3, 0.9), (2, 0.8, 0.1), (3, 0.5, 0.5)):
        model.head.bias.assign(np.full(model.head.bias.shape, step))
        progress = Progress(step=step, validation={"wer": rate, "valid_loss": loss})
        run.checkpoints.save(tf.train.Checkpoint(model=model), progress)
    assert run.average_checkpoints() == steps
    assert run.trained_model().head.bias.numpy()[0] == bias
    assert run.trained_model(3).head.bias.numpy()[0] == 3


def test_a_run_without_checkpoints_is_told(config, tiny_data):
    run = Run.create(config, tiny_data)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        run.trained_model()


def test_data_of_another_sample_rate_is_refused(tiny_run, tiny_data, tmp_path):
    tiny_run.check_data(tiny_data)
    folder = shutil.copytree(tiny_data.folder, tmp_path / "data")
    write_json(folder / "data.json", {**read_json(folder / "data.json"), "sample_rate": 16000})
    with pytest.raises(ValueError, match="sample rate of 8000 Hz; got 16000 Hz"):
        tiny_run.check_data(PreparedData(folder))


@pytest.fixture
def streaming_run(config, tiny_data):
    streaming = StreamingConfig(chunks=(4, 0), left_context=8)
    encoder = replace(config.model.encoder, conv_norm="layer", streaming=streaming)
    run = Run.create(replace(config, model=replace(config.model, encoder=encoder)), tiny_data)
    run.checkpoints.save(tf.train.Checkpoint(model=run.initial_model()), Progress(step=1))
    return run


def test_a_streaming_model_hears_the_chunks_that_are_asked_for(streaming_run, noise):
    features, num_frames = tf.constant(noise(1, 64, 8)), tf.constant([64])
    own = streaming_run.trained_model().encode(features, num_frames)[0]
    other = streaming_run.trained_model(chunk=2)
    as_asked = streaming_run.trained_model().encode(features, num_frames, chunk=2)[0]
    np.testing.assert_allclose(other.encode(features, num_frames)[0], as_asked, atol=1e-6)
    assert not np.allclose(own, as_asked, atol=1e-3)


def test_whole_utterances_have_no_chunks(config, tiny_data):
    run = Run.create(config, tiny_data)
    with pytest.raises(ValueError, match=r"a chunk needs a model that streams.*; got chunk=4"):
        run.trained_model(chunk=4)
