import numpy as np
import pytest

from tfasr.models.churn import Churn
from tfasr.study.comparison import Studied, families
from tfasr.study.drawing import BLUE
from tfasr.study.figures_comparison import (
    draw_churn,
    draw_churn_lines,
    draw_families,
    draw_over_training,
    draw_signals,
)
from tfasr.study.signals import Signal


def churn(step):
    moved = np.array([[1.0, 2.0, step], [4.0, 3.0, 0.0]])
    return Churn(step=step, modules=("attention", "norm"), moved=moved, first=np.ones([2, 3]))


def labels(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_checkpoints_are_rows_from_the_earliest_on_beside_their_tau(make_ranking):
    over_training = {
        2000: make_ranking(0.1, 0.2, baseline_wer=0.05),
        500: make_ranking(0.3, 0.1, baseline_wer=0.5),
    }
    left, right = draw_over_training(over_training).axes
    np.testing.assert_allclose(left.collections[0].get_array(), [[0.3, 0.1], [0.1, 0.2]])
    assert labels(left) == ["step 500, intact 50.0 %", "step 2,000, intact 5.0 %"]
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[-1, 0.5], [1, 1.5]])


def test_a_checkpoint_without_an_order_has_no_tau(make_ranking):
    over_training = {1: make_ranking(0.1, 0.1), 2: make_ranking(0.1, 0.2)}
    right = draw_over_training(over_training).axes[1]
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[1, 1.5]])


def test_families_have_a_panel_each_with_mean_and_range(make_ranking):
    runs = [
        Studied(family="small", seed=0, ranking=make_ranking(0.1, 0.5)),
        Studied(family="small", seed=1, ranking=make_ranking(0.3, 0.5)),
        Studied(family="large", seed=0, ranking=make_ranking(0.1, 0.2, 0.3)),
    ]
    small, large = draw_families(families(runs)).axes
    assert [axes.get_title() for axes in (small, large)] == ["small", "large"]
    np.testing.assert_allclose(small.lines[0].get_xydata(), [[0, 30], [1, 60]])
    corners = small.collections[0].get_paths()[0].vertices
    assert sorted(set(corners[corners[:, 0] == 0, 1].round(6))) == [20, 40]
    np.testing.assert_allclose(large.lines[0].get_xydata(), [[0, 20], [1, 30], [2, 40]])


def test_of_three_families_the_empty_panel_is_hidden(make_ranking):
    runs = [Studied(family=name, seed=0, ranking=make_ranking(0.1, 0.5)) for name in "abc"]
    panels = draw_families(families(runs)).axes
    assert [axes.get_visible() for axes in panels] == [True, True, True, False]


def test_churn_is_a_share_of_the_farthest_block_of_its_module():
    (axes,) = draw_churn(churn(4)).axes
    expected = [[0.25, 0.5, 1], [1, 0.75, 0]]
    np.testing.assert_allclose(axes.collections[0].get_array(), expected)
    assert labels(axes) == ["attention", "norm"]


def test_churn_lines_are_of_a_few_steps_with_the_first_and_the_last():
    attention, norm = draw_churn_lines([churn(step) for step in range(9, 0, -1)]).axes
    names = [line.get_label() for line in attention.lines]
    assert names == ["step 1", "step 3", "step 5", "step 7", "step 9"]
    np.testing.assert_allclose(attention.lines[-1].get_ydata(), [1 / 9, 2 / 9, 1])
    assert norm.get_title() == "norm"


def test_the_last_step_stands_out():
    attention, _ = draw_churn_lines([churn(step) for step in (4, 5)]).axes
    assert [line.get_color() == BLUE for line in attention.lines] == [False, True]


def test_signals_stand_by_their_correlation_beside_their_cost(make_ranking):
    signals = [
        Signal(name="level", values=np.ones(4), seconds=0.25),
        Signal(name="loss", values=np.array([1.0, 2, 4, 3]), seconds=12),
    ]
    left, right = draw_signals(signals, make_ranking(0.1, 0.2, 0.3, 0.4, seconds=20.0)).axes
    assert labels(left) == ["level", "loss"]
    widths = [bar.get_width() for bar in left.patches if bar.get_width()]
    assert widths == [pytest.approx(0.8), pytest.approx(2 / 3)]
    assert [text.get_text() for text in left.texts] == ["not defined"]
    assert [bar.get_width() for bar in right.patches] == [0.25, 12]
    assert [text.get_text() for text in right.texts] == [" 0.25 s", " 12 s"]
    assert list(right.lines[0].get_xdata()) == [20.0, 20.0]
