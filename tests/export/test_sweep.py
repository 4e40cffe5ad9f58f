import pytest

from tfasr.evaluation.error_rates import evaluate_texts
from tfasr.export.freeze import Freezing
from tfasr.export.measuring import Measured
from tfasr.export.sweep import Trial, smallest, ways


def trial(size, wrong, form="constant"):
    """So many bytes, and so many words wrong of a hundred."""
    evaluation = evaluate_texts(["a"] * 100, ["b"] * wrong + ["a"] * (100 - wrong))
    measured = Measured(
        bytes=size, load_seconds=1, real_time_factor=0.1, evaluation=evaluation, texts=()
    )
    return Trial(freezing=Freezing(form=form, blocks=(0,)), measured=measured)


def test_every_form_of_every_number_is_tried_behind_nothing_frozen():
    found = [(f.blocks, f.form, f.run_seed) for f in ways((2, 0), (), 7)]
    forms = ["constant", "seed", "pruned", "int8"]
    expected = [((), "constant", 7), *[((2,), f, 7) for f in forms]]
    assert found == [*expected, *[((2, 0), f, 7) for f in forms]]


def test_only_the_numbers_that_are_asked_for_are_tried():
    assert {f.blocks for f in ways((2, 0, 1), (3, 1, 1, 0), 7)} == {(), (2,), (2, 0, 1)}
    with pytest.raises(ValueError, match="the ranking has 3 blocks; got counts=4"):
        list(ways((2, 0, 1), (4,), 7))


def test_the_smallest_within_the_loss_is_chosen():
    trials = [trial(900, 5), trial(500, 7), trial(300, 9), trial(100, 30)]
    assert smallest(trials, 0.02) is trials[1]
    assert smallest(trials, 0.04) is trials[2]
    assert smallest(trials, 0.5) is trials[3]
    assert smallest(trials, 0.0) is trials[0]


def test_of_equal_sizes_the_better_is_chosen_and_what_was_refused_is_not():
    refused = Trial(freezing=Freezing(form="pruned", blocks=(0,)), refused="stacks")
    trials = [trial(900, 5), refused, trial(500, 6), trial(500, 5)]
    assert smallest(trials, 0.02) is trials[3]
    assert refused.to_json()["refused"] == "stacks"
    assert "texts" not in trials[0].to_json()
