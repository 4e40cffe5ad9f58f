import numpy as np

from tfasr.evaluation.error_rates import evaluate_texts
from tfasr.export.figures import draw_sweep
from tfasr.export.freeze import Freezing
from tfasr.export.measuring import Measured
from tfasr.export.sweep import Trial


def trial(blocks, form, size, wrong):
    """So many bytes, and so many words wrong of a hundred."""
    evaluation = evaluate_texts(["a"] * 100, ["b"] * wrong + ["a"] * (100 - wrong))
    measured = Measured(
        bytes=size, load_seconds=1, real_time_factor=0.1, evaluation=evaluation, texts=()
    )
    return Trial(freezing=Freezing(form=form, blocks=tuple(range(blocks))), measured=measured)


TRIALS = [
    trial(0, "constant", 5_000_000, 4),
    trial(1, "seed", 4_000_000, 5),
    Trial(freezing=Freezing(form="pruned", blocks=(0,)), refused="it stacks frames"),
    trial(2, "seed", 3_000_000, 20),
    trial(2, "pruned", 2_500_000, 50),
]


def drawn(axes):
    """Points by the label of what draws them."""
    found = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
    for bars in axes.containers:
        found[bars.get_label()] = np.asarray(bars.lines[0].get_xydata()).tolist()
    return found


def test_a_form_is_a_line_of_its_numbers_and_what_was_refused_is_left_out():
    (axes,) = draw_sweep(TRIALS, 0.02).axes
    lines = drawn(axes)
    assert lines["seed"] == [[4, 5], [3, 20]]
    assert lines["pruned"] == [[2.5, 50]]
    assert not {"constant", "int8"} & lines.keys()
    assert [text.get_text() for text in axes.texts] == ["1", "2", "2"]


def test_nothing_frozen_and_the_largest_loss_are_marked():
    (axes,) = draw_sweep(TRIALS, 0.02).axes
    lines = drawn(axes)
    assert lines["nothing frozen"] == [[5, 4]]
    assert [y for _, y in lines["largest loss"]] == [6, 6]


def test_error_bars_are_the_intervals():
    (axes,) = draw_sweep(TRIALS, 0.02).axes
    [seed] = [bars for bars in axes.containers if bars.get_label() == "seed"]
    ends = seed.lines[2][0].get_segments()
    low, high = TRIALS[1].measured.evaluation.wer_interval
    np.testing.assert_allclose(ends[0], [[4, 100 * low], [4, 100 * high]])
