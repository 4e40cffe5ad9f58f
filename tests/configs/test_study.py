from pathlib import Path

import pytest

from tfasr.configs.study import StudyConfig


def config(**settings):
    return StudyConfig(run=Path("run"), data=Path("data"), **settings)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"draws": 0}, "draws must be at least 1; got draws=0"),
        ({"jobs": 0}, "jobs must be at least 1; got jobs=0"),
        ({"step": -1}, "step must be at least 0; got step=-1"),
        ({"margin": 0.0}, r"margin must be in \(0, 1\); got margin=0\.0"),
        ({"margin": 1.0}, r"margin must be in \(0, 1\); got margin=1\.0"),
        ({"method": "churn", "what": ("blocks", "pairs")}, r"ranks blocks alone, .*blocks,pairs"),
        ({"method": "fisher", "over_training": True}, "over_training=True"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, rule):
    with pytest.raises(ValueError, match=rule):
        config(**settings)


def test_the_ranking_lies_in_the_run_unless_told_otherwise():
    assert config().folder == Path("run/study")
    assert config(out=Path("other")).folder == Path("other")


@pytest.mark.parametrize(("method", "expected"), [("rerandomise", False), ("cosine", True)])
def test_signals_reset_nothing(method, expected):
    assert config(method=method).ranks_by_signal is expected
