import pytest

scaling = pytest.importorskip(
    "benchmarks.scaling", reason="benchmarks are importable from the repository's own folder only"
)


def rows(speed, *losses):
    logged = [{"loss": loss, "audio_seconds_per_second": speed} for loss in losses]
    return [*logged, {"valid_loss": 2.0}]


def test_losses_are_compared_line_by_line():
    figures = scaling.compared(rows(10.0, 4.0, 2.0), rows(15.0, 4.0, 2.5))
    assert figures["loss_difference"] == pytest.approx(0.25)
    assert figures["two_hosts_speed"] == pytest.approx(1.5)


def test_equal_losses_have_no_difference():
    assert scaling.compared(rows(1.0, 3.0), rows(1.0, 3.0))["loss_difference"] == 0


def test_a_run_that_logged_less_is_refused():
    with pytest.raises(ValueError, match="must log the same lines; got 3 and 2"):
        scaling.compared(rows(1.0, 3.0, 2.0), rows(1.0, 3.0))
