import pytest

from tfasr.configs.objective import JointObjective


def test_the_defaults_are_those_of_equation_16():
    objective = JointObjective()
    assert (objective.ctc_weight, objective.reverse_weight, objective.smoothing) == (0.3, 0.3, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ctc_weight": 1.1}, r"must be in \[0, 1\]; got ctc_weight=1.1, reverse_weight=0.3"),
        ({"reverse_weight": -0.1}, "got ctc_weight=0.3, reverse_weight=-0.1"),
        ({"fastemit": -0.1}, "fastemit must be finite and not negative; got fastemit=-0.1"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\); got smoothing=1.0"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        JointObjective(**settings)
