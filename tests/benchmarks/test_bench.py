import json
import subprocess

import pytest

bench = pytest.importorskip(
    "benchmarks.bench", reason="benchmarks are importable from the repository's own folder only"
)


def figure(median, better):
    return {"median": median, "least": median, "most": median, "better": better}


def test_what_benchmarks_declare_is_read_without_importing_them(tmp_path):
    (tmp_path / "speed.py").write_text('raise OSError\nBETTER = {"ratio": "higher"}\n')
    (tmp_path / "silent.py").write_text("figures = {}\n")
    assert bench.declared(tmp_path) == {"speed": {"ratio": "higher"}}


def test_a_declaration_of_something_else_is_refused(tmp_path):
    (tmp_path / "speed.py").write_text('BETTER = {"ratio": "larger"}\n')
    with pytest.raises(ValueError, match=r"speed\.py: BETTER must say higher or lower; got larger"):
        bench.declared(tmp_path)


def test_a_figure_is_the_median_of_its_runs():
    rows = [{"ratio": 3.0}, {"ratio": 1.0, "other": 7}, {"ratio": 2.5}]
    expected = {"median": 2.5, "least": 1.0, "most": 3.0, "better": "higher"}
    assert bench.summary(rows, {"ratio": "higher"}) == {"ratio": expected}


def test_a_figure_that_no_run_came_to_is_nothing():
    found = bench.summary([{"peer": None}, {}], {"peer": "higher"})
    assert found["peer"] == figure(None, "higher")


def test_what_became_a_tenth_worse_is_named():
    before = {"speed": {"ratio": figure(2.2, "higher"), "seconds": figure(1.0, "lower")}}
    now = {"speed": {"ratio": figure(1.9, "higher"), "seconds": figure(1.2, "lower")}}
    assert bench.worsened(before, now) == [
        "speed ratio: 2.2 became 1.9",
        "speed seconds: 1 became 1.2",
    ]


def test_what_became_less_than_a_tenth_worse_is_not():
    before = {"speed": {"ratio": figure(2.0, "higher"), "seconds": figure(1.0, "lower")}}
    now = {"speed": {"ratio": figure(1.85, "higher"), "seconds": figure(1.09, "lower")}}
    assert bench.worsened(before, now) == []


def test_a_figure_below_zero_is_worse_by_more_than_a_tenth_of_its_size():
    before = {"serving": {"overhead": figure(-0.02, "lower")}}
    for value, worse in ((-0.02, False), (-0.019, False), (-0.017, True)):
        now = {"serving": {"overhead": figure(value, "lower")}}
        assert bool(bench.worsened(before, now)) == worse


def test_a_figure_that_one_of_both_lacks_is_not_compared():
    before = {"speed": {"ratio": figure(None, "higher")}}
    now = {"speed": {"ratio": figure(1.0, "higher")}, "new": {"ratio": figure(1.0, "higher")}}
    assert bench.worsened(before, now) == []


def test_results_are_a_table_of_markdown():
    results = {
        "date": "2026-11-22",
        "commits": {"speed": "abc1234"},
        "machine": {"processor": "Fast One", "cores": 4, "memory_gigabytes": 24.0},
        "versions": {"python": "3.11.7"},
        "figures": {"speed": {"ratio": figure(1.2345, "higher"), "other": figure(None, "lower")}},
    }
    assert bench.markdown(results).splitlines() == [
        "# 2026-11-22",
        "",
        "Fast One, 4 cores, 24.0 GB; python 3.11.7",
        "",
        "| benchmark | figure | median | least | most | better | commit |",
        "|---|---|---|---|---|---|---|",
        "| speed | `ratio` | 1.23 | 1.23 | 1.23 | higher | abc1234 |",
        "| speed | `other` | - | - | - | lower | abc1234 |",
    ]


@pytest.fixture
def commit(tmp_path, monkeypatch):
    """Commits results of a date, which are told by a number; gives their file."""
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)

    def write(date, figures):
        path = bench._RESULTS / f"{date}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"date": date, "figures": figures}))
        return path

    def commit_results(date, figures):
        path = write(date, figures)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", date], check=True)
        return path

    commit_results.write = write
    return commit_results


def test_results_are_compared_with_those_committed_of_an_earlier_day(commit):
    commit("2026-11-20", 1)
    assert bench._last_committed(commit.write("2026-11-21", 2))["figures"] == 1


def test_results_that_changed_since_are_compared_with_their_own_committed_ones(commit):
    commit("2026-11-20", 1)
    commit("2026-11-21", 2)
    assert bench._last_committed(commit.write("2026-11-21", 3))["figures"] == 2


def test_committed_results_are_compared_with_those_before(commit):
    commit("2026-11-20", 1)
    assert bench._last_committed(commit("2026-11-21", 2))["figures"] == 1


def test_the_only_results_are_compared_with_nothing(commit):
    assert bench._last_committed(commit("2026-11-20", 1)) is None


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """Makes the benchmark `speed`, of the lines that it has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    return lambda *lines: (tmp_path / "benchmarks" / "speed.py").write_text("\n".join(lines))


def test_a_benchmark_s_table_is_shown_and_its_last_line_gives_the_figures(benchmark, capfd):
    benchmark("print('ours 1')", "print('theirs 2')", "print('{\"ratio\": 2}')")
    assert bench._figures("speed") == {"ratio": 2}
    assert capfd.readouterr().out.splitlines() == ["speed ...", "ours 1", "theirs 2"]


def test_a_benchmark_that_fails_ends_the_run(benchmark):
    benchmark("raise SystemExit(3)")
    with pytest.raises(SystemExit, match=r"-m benchmarks\.speed --json ended with status 3"):
        bench._figures("speed")
