import numpy as np
import pytest
from matplotlib.figure import Figure

from tfasr.study.drawing import (
    heat_map,
    in_order,
    legend,
    new_figure,
    penalty_shades,
    plain,
    points,
    write_png,
)


def assert_is_png(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def test_a_figure_is_a_whole_png(tmp_path):
    write_png(new_figure(2, 1.0), tmp_path / "study" / "blocks.png")
    assert_is_png(tmp_path / "study" / "blocks.png")
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["blocks.png"]


def test_a_figure_is_replaced(tmp_path):
    (tmp_path / "blocks.png").write_text("old")
    write_png(new_figure(2, 1.0), tmp_path / "blocks.png")
    assert_is_png(tmp_path / "blocks.png")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0"),
        (-0.0001, "0.0"),
        (-0.002, "\N{MINUS SIGN}0.2"),
        (0.0994, "9.9"),
        (0.0996, "10"),
        (1.034, "103"),
    ],
)
def test_points_are_as_short_as_they_can_be(share, text):
    assert points(share) == text


def test_modules_are_named_in_words():
    assert plain("feed_forward_1") == "feed-forward 1"


def test_modules_stand_as_a_block_runs_them():
    modules = {"stacking", "feed_forward_2", "norm", "attention"}
    assert in_order(modules) == ["attention", "feed_forward_2", "norm", "stacking"]


def test_small_penalties_have_most_of_the_shades():
    scale = penalty_shades(np.array([0.64, np.nan, -0.1])).scale
    np.testing.assert_allclose(scale(np.array([-0.1, 0.0, 0.16, 0.64])), [0, 0, 0.5, 1])


def test_no_penalty_at_all_has_the_lightest_shade():
    scale = penalty_shades(np.array([0.0, -0.1])).scale
    np.testing.assert_allclose(scale(np.array([0.0, -0.1])), [0, 0])


def drawn_heat_map(values):
    axes = Figure().subplots()
    rows = [f"row {number}" for number in range(len(values))]
    heat_map(axes, values, rows, range(values.shape[1]), penalty_shades(values))
    return axes


def test_cells_hold_their_numbers_and_the_unknown_none():
    axes = drawn_heat_map(np.array([[0.001, 0.02], [np.nan, 0.3]]))
    assert [text.get_text() for text in axes.texts] == ["0.1", "2.0", "30"]
    assert [text.get_position() for text in axes.texts] == [(0.5, 0.5), (1.5, 0.5), (1.5, 1.5)]


def test_numbers_are_dark_on_light_cells_and_light_on_dark_ones():
    axes = drawn_heat_map(np.array([[0.0, 0.9]]))
    assert [text.get_color() for text in axes.texts] == ["#111111", "#ffffff"]


def test_the_cells_of_many_blocks_have_a_bar_in_place_of_numbers():
    axes = drawn_heat_map(np.full([1, 21], 0.09))
    assert not axes.texts
    bar = axes.figure.axes[-1]
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["0.0", "1.0", "4.0", "9.0"]


def test_a_legend_reads_row_by_row_and_bars_come_first():
    figure = Figure()
    axes = figure.subplots()
    for name in ("line 1", "line 2"):
        axes.plot([0], [0], label=name)
    for name in ("bar 1", "bar 2", "bar 3"):
        axes.bar(0, 0, label=name)
    legend(figure, axes, columns=2)
    # Columns are filled one after the other: the rows are (bar 1, bar 2), (bar 3, line 1), ...
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["bar 1", "bar 3", "line 2", "bar 2", "line 1"]
