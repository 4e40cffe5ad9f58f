from io import StringIO

import pytest

from pipelines.progress import ProgressLine


class Terminal(StringIO):
    """A text file that says it is a terminal."""

    def isatty(self):
        return True


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pipelines.progress.time", clock)
    return clock


def line_to(out, every_seconds=0.0):
    return ProgressLine("train", every_seconds=every_seconds, out=out)


def test_a_file_gets_whole_lines():
    line = line_to(out := StringIO())
    line(1, 2)
    line(2, 2)
    assert [text.split("  ")[:2] for text in out.getvalue().splitlines()] == [
        ["train", "1/2"],
        ["train", "2/2"],
    ]


def test_a_terminal_gets_one_line_in_place(clock):
    line = line_to(out := Terminal())
    for done in (1, 2, 3):
        line(done, 3)
        clock.now += 1
    texts = out.getvalue().split("\r\x1b[K")
    assert [text.split("  ")[1] for text in texts[1:]] == ["1/3", "2/3", "3/3"]
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().endswith("\n")


def test_time_passed_and_left_are_shown(clock):
    line = line_to(out := StringIO())
    line(1, 5)
    clock.now += 90
    line(2, 5)
    assert out.getvalue() == "train  1/5  0:00\ntrain  2/5  1:30  4:30 left\n"


def test_hours_are_shown_where_there_are_any(clock):
    line = line_to(out := StringIO())
    clock.now += 3661
    line(1, 1)
    assert out.getvalue() == "train  1/1  1:01:01\n"


def test_a_resumed_job_is_timed_by_what_it_did_itself(clock):
    line = line_to(out := StringIO())
    clock.now += 2
    line(900, 1000)
    clock.now += 10
    line(902, 1000)
    # Two steps in ten seconds: 98 take 490 seconds.
    assert out.getvalue().splitlines()[-1] == "train  902/1000  0:12  8:10 left"


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        ({"loss": 12.3456}, "loss 12.35"),
        ({"wer": 0.12345}, "wer 12.35 %"),
        ({"cer_close": 0.5}, "cer_close 50.00 %"),
        ({"audio_seconds_per_second": 123.4}, "123 s/s"),
        ({"epoch": 3}, "epoch 3"),
    ],
)
def test_figures_are_shown_by_name(figure, shown):
    line = line_to(out := StringIO())
    line(1, 1, **figure)
    assert out.getvalue() == f"train  1/1  {shown}  0:00\n"


def test_between_two_lines_there_is_time(clock):
    line = line_to(out := StringIO(), every_seconds=5.0)
    for done in range(1, 13):
        line(done, 100)
        clock.now += 1
    shown = [text.split("  ")[1] for text in out.getvalue().splitlines()]
    assert shown == ["1/100", "6/100", "11/100"]


def test_the_last_line_is_always_written(clock):
    line = line_to(out := StringIO(), every_seconds=5.0)
    line(1, 2)
    line(2, 2)
    assert out.getvalue().splitlines()[-1].startswith("train  2/2")
