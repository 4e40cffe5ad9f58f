from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from pipelines.prepare import RatedLine, run
from pipelines.progress import ProgressLine
from tfasr.audio.decoding import write_wav


@pytest.fixture
def config(write_corpus, prepare_config, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=6, valid=2, test=2)
    return prepare_config(corpus, tmp_path / "data")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pipelines.prepare.time", clock)
    return clock


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


def test_what_was_prepared_is_told(config, capsys):
    run(config)
    assert lines_of(capsys) == [
        "train: 6 utterances, 0.1 min",
        "valid: 2 utterances, 0.0 min",
        "test: 2 utterances, 0.0 min",
        "2 speakers are both in training and held out, as the corpus divides them; "
        "--splits.by speaker divides it anew",
    ]


def test_nothing_to_validate_on_is_told(write_corpus, prepare_config, tmp_path, capsys):
    alone = write_corpus(tmp_path / "corpus", train=1)
    run(prepare_config(alone, tmp_path / "data"))
    assert "has nothing to validate on, which training needs" in lines_of(capsys)[-1]


def test_progress_has_the_utterances_that_this_process_prepared_a_second(clock):
    line = RatedLine(ProgressLine("prepare", every_seconds=0, out=(out := StringIO())))
    line(90, 100)
    clock.now += 2
    line(95, 100)
    clock.now += 2
    line(100, 100)
    rates = [text.split("  ")[2] for text in out.getvalue().splitlines()[1:]]
    assert rates == ["utterances_per_second 2.5", "utterances_per_second 2.5"]


def test_prepared_data_is_left_alone(config, capsys):
    run(config)
    lines_of(capsys)
    run(replace(config, jobs=3))
    assert lines_of(capsys)[0] == f"{config.out}: already prepared"


def test_a_report_is_written_for_data_that_is_already_there(config, capsys):
    run(config)
    run(replace(config, report=True))
    assert lines_of(capsys)[-1] == f"report: {config.out / 'report.html'}"
    assert (config.out / "report.html").is_file()


def test_skipped_entries_are_listed_up_to_a_number(write_corpus, prepare_config, tmp_path, capsys):
    source = write_corpus(tmp_path / "corpus", train=30)
    for number in range(25):
        write_wav(source / "wav" / f"train-{number:02d}.wav", np.zeros(0, np.int16), 8000)
    run(prepare_config(source, tmp_path / "data", on_error="skip"))
    lines = lines_of(capsys)
    assert sum(line.startswith("skipped /") for line in lines) == 20
    assert "skipped: 25 entries, 20 of them above, all in data.json" in lines


def test_unknown_tokens_and_a_missing_training_split_are_told(config, capsys, tmp_path):
    lines = (config.source / "test.jsonl").read_text().splitlines()
    (config.source / "test.jsonl").write_text(lines[0].replace('"text": "', '"text": "x y ') + "\n")
    run(config)
    assert "test: 1 utterances, 0.0 min, 2 unknown tokens" in lines_of(capsys)
    run(replace(config, source=config.source / "test.jsonl", out=tmp_path / "test"))
    told = f"{tmp_path / 'test'}: has no training split, so it can only be evaluated on"
    assert lines_of(capsys)[-1] == told
