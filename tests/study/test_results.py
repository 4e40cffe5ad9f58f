import numpy as np
import pytest

from tfasr.study.reset import ResetErrors
from tfasr.study.resets import Reset
from tfasr.study.results import Results
from tfasr.study.signals import Signal

ERRORS = ResetErrors(np.array([1, 2]), np.array([[3, 4], [5, 6], [7, 8]]), seconds=2.5)


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path, {"model": "a", "draws": 3})


def test_errors_are_read_as_they_were_added(results):
    results.add(Reset((1,), "attention"), ERRORS)
    found = results[Reset((1,), "attention")]
    np.testing.assert_array_equal(found.reinitialised, ERRORS.reinitialised)
    np.testing.assert_array_equal(found.rerandomised, ERRORS.rerandomised)
    assert found.seconds == 2.5


def test_errors_without_fresh_draws_keep_their_shape(results):
    results.add(Reset((1,)), ResetErrors(np.array([1, 2]), np.zeros([0, 2], np.int64), 1.0))
    assert results[Reset((1,))].rerandomised.shape == (0, 2)


def test_what_is_missing_goes_upwards_by_the_lowest_block(results):
    results.add(Reset((1,)), ERRORS)
    asked = [Reset((2,)), Reset((1,)), Reset((0, 2)), Reset((1, 2)), Reset((0,))]
    assert results.missing(asked) == [Reset((0,)), Reset((0, 2)), Reset((1, 2)), Reset((2,))]


def test_the_intact_model_is_kept_with_the_words(results):
    assert not results.has_intact
    results.add_intact(np.array([0, 1]), np.array([4, 6]))
    errors, words = results.intact()
    assert (errors.tolist(), words.tolist()) == ([0, 1], [4, 6])
    assert results.has_intact


def test_a_signal_is_measured_once(results):
    def measure():
        return Signal(name="churn", values=np.array([1.5, 2.0]), seconds=3.0)

    def fail():
        raise RuntimeError

    for way in (measure, fail):
        found = results.signal("churn", way)
        assert (found.name, found.values.tolist(), found.seconds) == ("churn", [1.5, 2.0], 3.0)


def test_other_settings_have_results_of_their_own(results, tmp_path):
    results.add(Reset((1,)), ERRORS)
    assert Reset((1,)) in Results(tmp_path, {"draws": 3, "model": "a"})
    assert Reset((1,)) not in Results(tmp_path, {"model": "b", "draws": 3})
