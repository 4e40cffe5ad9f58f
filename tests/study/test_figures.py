from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tfasr.study.drawing import BLUE, GREY, VERMILION
from tfasr.study.figures import draw_blocks, draw_cumulative, draw_modules, draw_pairs


def bars(axes):
    """Height, colour and hatch of each block's bar."""
    drawn = [bar for bar in axes.patches if bar.get_height() > 0]
    return {
        round(bar.get_x() + bar.get_width() / 2): (
            pytest.approx(bar.get_height()),
            to_hex(bar.get_facecolor()),
            bar.get_hatch(),
        )
        for bar in drawn
    }


def lines(axes):
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}


def cells(axes):
    """Values by row and column, NaN where there is none."""
    return np.ma.filled(axes.collections[0].get_array().astype(float), np.nan)


def test_bars_are_error_rates_in_the_colour_of_their_verdict(make_ranking):
    # Intervals reach 1 point to either side of the penalty, and the margin is 5 points.
    (axes,) = draw_blocks(make_ranking(0.08, 0.045, 0.01), 0.05).axes
    assert bars(axes) == {
        0: (18, VERMILION, None),
        1: (14.5, GREY, "////"),
        2: (11, BLUE, None),
    }


def test_verdicts_are_counted_in_the_legend(make_ranking):
    figure = draw_blocks(make_ranking(0.08, 0.01, 0.01), 0.05)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"ambient, 2", "undecided, 0", "critical, 1"} <= set(texts)


def test_lines_are_where_nothing_is_reset_and_where_the_margin_is(make_ranking):
    (axes,) = draw_blocks(make_ranking(0.06, 0.01), 0.05).axes
    assert lines(axes)["intact, 10.0 %"][:, 1] == pytest.approx(10)
    assert lines(axes)["margin, 5 points above"][:, 1] == pytest.approx(15)


def test_diamonds_are_the_error_rates_with_the_first_weights(make_ranking):
    (axes,) = draw_blocks(make_ranking(0.06, 0.02), 0.05).axes
    np.testing.assert_allclose(lines(axes)["with its first weights"], [[0, 13], [1, 11]])


def test_where_first_weights_make_the_penalty_there_are_no_diamonds(make_ranking):
    (axes,) = draw_blocks(make_ranking(0.06, 0.02, method="reinitialise"), 0.05).axes
    assert "with its first weights" not in lines(axes)


def test_what_high_rates_would_hide_is_enlarged(make_ranking):
    whole, closeup = draw_blocks(make_ranking(0.8, 0.01), 0.02).axes
    # Up to the interval's end and a little more; then two margins below and four above.
    assert whole.get_ylim() == pytest.approx((0, 1.05 * 91))
    assert closeup.get_ylim() == pytest.approx((6, 18))
    assert bars(whole) == bars(closeup)


def test_an_interval_without_width_is_drawn(make_ranking, make_score):
    # A penalty that differs from its interval in the last bit.
    score = replace(make_score((0,), 7 / 11), interval=(12 / 11 - 5 / 11,) * 2)
    (axes,) = draw_blocks(make_ranking(blocks=(score,)), 0.2).axes
    (segment,) = axes.collections[0].get_segments()
    np.testing.assert_allclose(segment[:, 1], 100 * (0.1 + 7 / 11))


def test_a_signal_is_drawn_as_it_is(make_ranking, by_signal):
    (axes,) = draw_blocks(by_signal(make_ranking(0.25, 0.5)), 0.02).axes
    assert [bar.get_height() for bar in axes.patches] == [0.25, 0.5]
    assert axes.get_ylabel() == "signal: relative churn"


def test_modules_stand_as_a_block_runs_them_above_the_whole_block(make_ranking, make_score):
    modules = [
        make_score((1,), 0.01, "norm"),
        make_score((1,), 0.02, "feed_forward_1"),
        make_score((0,), 0.03, "norm"),
    ]
    (axes,) = draw_modules(make_ranking(0.5, 0.4, modules=tuple(modules))).axes
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["feed-forward 1", "norm", "whole block"]
    np.testing.assert_allclose(cells(axes), [[np.nan, 0.02], [0.03, 0.01], [0.5, 0.4]])


def test_sets_of_blocks_are_drawn_by_their_number(make_ranking, make_score):
    sets = (make_score((1,), 0.01), make_score((0, 1), 0.06))
    (axes,) = draw_cumulative(make_ranking(0.06, 0.01, cumulative=sets), 0.05).axes
    np.testing.assert_allclose(lines(axes)["reset together"], [[1, 11], [2, 16]])


def test_pairs_stand_below_the_blocks_alone(make_ranking, make_score):
    pairs = (make_score((0, 2), 0.5), make_score((1, 2), 0.6))
    (axes,) = draw_pairs(make_ranking(0.3, 0.2, 0.1, pairs=pairs)).axes
    none = np.nan
    expected = [[0.3, none, none], [none, 0.2, none], [0.5, 0.6, 0.1]]
    np.testing.assert_allclose(cells(axes), expected)
