import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow.python.framework.config import disable_op_determinism

from pipelines.cli import main
from tfasr.artifacts.files import read_json, read_json_lines
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.ranking import Ranking
from tfasr.training.run import Run

ROOT = Path(__file__).parents[2]
URL = re.compile(r"http://\S+/v1/models/[\w.-]+")


def tfasr(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def run(data, train_arguments):
    folder = data.with_name("run")
    tfasr(*train_arguments(data, folder, "--steps", "50", "--valid_every", "50"))
    # Training asks for it, and the tests after it are none of its business.
    disable_op_determinism()
    return folder


@pytest.fixture(scope="module")
def ranking(data, run):
    tfasr("study", "--run", run, "--data", data, "--draws", "1", "--margin", "0.5")
    return run / "study" / "ranking.json"


@pytest.fixture(scope="module")
def model(run, ranking):
    folder = run.with_name("models") / "tones"
    tfasr("export", "--run", run, "--freeze.blocks", "1", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def url(model):
    """Of a server in a process of its own, at any free port."""
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--model", str(model), "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield next(found[0] for line in server.stdout if (found := URL.search(line)))
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="module")
def federation(data, run, ranking):
    """The folder of an adapted run, how to adapt it, and what was said of it."""
    folder = run.with_name("adapted")
    options = """--plan.blocks 1 --plan.base_rate 0 --rounds 1 --clients_per_round 1
        --client_steps 2 --client_batch 4 --per_client true"""
    arguments = ["federate", "--run", run, "--data", data, "--out", folder, *options.split()]
    with contextlib.redirect_stdout(io.StringIO()) as told:
        tfasr(*arguments)
    return folder, arguments, told.getvalue()


@pytest.fixture(scope="module")
def adapted(federation):
    return federation[0]


def evaluated(data, out, *arguments):
    """Texts by id, as `evaluate` writes them."""
    tfasr("evaluate", "--data", data, "--out", out, *arguments)
    return {row["utterance_id"]: row["text"] for row in read_json_lines(out / "hypotheses.jsonl")}


@pytest.fixture(scope="module")
def heard(data, run):
    """Texts of the run by id, with the folder of its evaluation."""
    folder = run.with_name("heard")
    return evaluated(data, folder, "--run", run), folder


def transcribed(capsys, *arguments):
    """Texts by id, as `transcribe` prints them."""
    capsys.readouterr()
    tfasr("transcribe", *arguments)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return {Path(path).stem: text for path, text in rows}


def test_the_model_has_learned(heard):
    figures = read_json(heard[1] / "evaluation.json")
    assert figures["wer"] < 0.5
    assert (figures["utterances"], figures["words"]) == (6, 15)
    assert (
        figures["wer"]
        == (figures["substitutions"] + figures["insertions"] + figures["deletions"]) / 15
    )


def test_the_same_text_is_heard_everywhere(data, heard, model, url, corpus, tmp_path, capsys):
    expected, _ = heard
    assert len(expected) == 6
    assert all(expected.values())
    files = sorted((corpus / "wav").glob("test-*.wav"))
    assert evaluated(data, tmp_path / "model", "--model", model) == expected
    assert transcribed(capsys, "--model", model, *files) == expected
    assert transcribed(capsys, "--url", url, *files) == expected


def test_the_ranking_is_of_the_run_that_was_studied(run, ranking):
    found = Ranking.read(ranking)
    assert found.model_hash == weights_hash(Layout(Run(run).trained_model()))
    assert found.penalties().keys() == {0, 1}
    assert found.words == 8  # The validation utterances that are not withheld are of two words.


def test_a_study_is_not_done_twice(data, run, ranking, capsys):
    def written():
        return {path.name: path.stat().st_mtime_ns for path in run.glob("study/errors/*/*.json")}

    before = written()
    assert {"intact.json", "block-0.json", "block-1.json"} <= before.keys()
    tfasr("study", "--run", run, "--data", data, "--draws", "1", "--margin", "0.5")
    assert written() == before


def test_the_most_ambient_block_is_frozen(model, ranking):
    about = read_json(model / "1" / "export.json")
    assert about["frozen"]["blocks"] == list(Ranking.read(ranking).most_ambient(1))


@pytest.mark.parametrize(
    ("stage", "told"), [("prepare", "already prepared"), ("train", "already trained to step 50")]
)
def test_a_finished_stage_says_so(
    data, run, prepare_arguments, train_arguments, capsys, stage, told
):
    arguments = {
        "prepare": prepare_arguments(data),
        "train": train_arguments(data, run, "--steps", "50", "--valid_every", "50"),
    }
    tfasr(*arguments[stage])
    assert told in capsys.readouterr().out


def test_data_of_another_rate_is_not_given_to_an_exported_model(
    data, model, corpus, tmp_path, capsys
):
    wide = ["--source", str(corpus / "test.jsonl"), "--fbank.sample_rate", "16000"]
    tfasr("prepare", "--corpus", "manifest", *wide, "--out", tmp_path / "wide")
    arguments = ["evaluate", "--data", tmp_path / "wide", "--model", model]
    assert main([str(argument) for argument in arguments]) == 1
    assert "must have the model's sample rate of 8000 Hz; got 16000 Hz" in capsys.readouterr().err


@pytest.mark.federated
def test_the_withheld_domain_is_adapted_to(adapted, data, tmp_path):
    rows = read_json_lines(adapted / "rounds.jsonl")
    assert [row["round"] for row in rows] == [0, 1]
    assert rows[1]["clients"] == ["bo"]
    assert rows[1]["dropped"] > 0
    assert all(0 <= row["wer"] for row in rows)
    assert len(evaluated(data, tmp_path, "--run", adapted, "--domains", "phone")) == 3


@pytest.mark.federated
def test_an_adaptation_says_what_came_of_it(federation, ranking, capsys):
    folder, arguments, told = federation
    assert "1 clients by speaker, 48 utterances" in told
    # Of 64 units, half of those of the most ambient block are left out.
    units = ["32" if b in Ranking.read(ranking).most_ambient(1) else "64" for b in (0, 1)]
    assert f"feed_forward_1: {' '.join(units)}\n" in told
    assert "after 1 rounds" in told
    assert Run(folder).checkpoints.steps() == [0, 1]
    tfasr(*arguments)
    assert "already ran 1 rounds" in capsys.readouterr().out


@pytest.mark.federated
def test_an_adapted_run_is_exported_by_the_ranking_of_its_origin(adapted, ranking, tmp_path):
    freeze = ["--freeze.blocks", "1", "--freeze.ranking", ranking]
    tfasr("export", "--run", adapted, *freeze, "--out", tmp_path / "tones")


@pytest.mark.federated
def test_an_adaptation_says_whom_it_helped(federation):
    folder, _, told = federation
    found = read_json(folder / "per_client.json")
    [client] = found["clients"]
    # The validation split's four utterances on the phone, of three words each, are all bo's.
    assert (client["client"], client["words"]) == ("bo", 12)
    rows = read_json_lines(folder / "rounds.jsonl")
    assert client["before"] == rows[0]["wer"]
    assert client["after"] == min(row["wer"] for row in rows)
    assert f"worst is bo: {100 * client['before']:.2f} before" in told


@pytest.mark.federated
def test_a_finished_adaptation_leaves_its_mark(adapted):
    assert (adapted / "finished.json").is_file()
