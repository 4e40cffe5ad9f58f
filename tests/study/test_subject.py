import shutil
from dataclasses import replace

import numpy as np
import pytest

from tfasr.configs.loading import read_yaml, to_yaml
from tfasr.configs.study import StudyConfig
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.resets import each_block
from tfasr.study.subject import Subject
from tfasr.study.workers import evaluate_in_processes


@pytest.fixture
def config(tiny_run, tiny_data, tmp_path):
    return StudyConfig(run=tiny_run.folder, data=tiny_data.folder, out=tmp_path, draws=1)


@pytest.fixture
def subject(config):
    return Subject(config, step=0, seeds=[1])


def test_the_model_is_the_runs(subject, tiny_run):
    assert subject.model_hash == weights_hash(Layout(tiny_run.trained_model()))
    assert subject.step == tiny_run.checkpoints.best_step()


def test_words_are_those_of_the_split(subject):
    assert subject.words == 15


def test_other_utterances_have_another_hash(subject, config):
    fewer = Subject(replace(config, domains=("close",)), step=0, seeds=[1])
    assert fewer.data_hash != subject.data_hash


@pytest.fixture(scope="module")
def finished(tiny_run, tiny_data, tmp_path_factory):
    """A study of each block, interrupted after one: what that found, and what was reported."""
    out, seen = tmp_path_factory.mktemp("finished"), []
    config = StudyConfig(run=tiny_run.folder, data=tiny_data.folder, out=out, draws=1)
    first = Subject(config, step=0, seeds=[1])
    blocks = each_block(first.layout)
    first.evaluate(blocks[:1], lambda *done: seen.append(done))
    again = Subject(config, step=0, seeds=[1])
    before = again.results[blocks[0]].rerandomised
    again.evaluate(blocks, lambda *done: seen.append(done))
    return again, before, seen


def test_a_study_that_was_interrupted_goes_on(finished):
    subject, before, seen = finished
    assert seen == [(1, 1), (2, 2)]
    block = each_block(subject.layout)[0]
    np.testing.assert_array_equal(subject.results[block].rerandomised, before)


def test_processes_find_what_one_does(config, finished):
    several, seen = Subject(replace(config, jobs=2), step=0, seeds=[1]), []
    blocks = each_block(several.layout)
    evaluate_in_processes(several, blocks, lambda *done: seen.append(done))
    assert seen[-1] == (2, 2)
    for block in blocks:
        ours, expected = several.results[block], finished[0].results[block]
        np.testing.assert_array_equal(ours.reinitialised, expected.reinitialised)
        np.testing.assert_array_equal(ours.rerandomised, expected.rerandomised)


def test_a_run_that_names_no_seed_is_refused(config, tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    values = read_yaml(run / "config.yaml")
    del values["train"]["seed"]
    (run / "config.yaml").write_text(to_yaml(values))
    message = r"run/config\.yaml: must name the seed of the run, train\.seed, .*; got none"
    with pytest.raises(ValueError, match=message):
        Subject(replace(config, run=run), step=0, seeds=[1])
