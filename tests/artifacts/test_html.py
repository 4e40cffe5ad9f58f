import re

import pytest
from matplotlib.figure import Figure

from tfasr.artifacts.html import Html, drawing, element, histogram, ink, join, table


def drawn(title="Rates & <bars>", caption="Read <this>.", width=6.0):
    with ink():
        figure = Figure(figsize=(width, 2), facecolor="none")
        figure.subplots().plot([0, 1], label="line")
    return drawing(figure, title, caption)


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "a < b", Html("<br>"), class_='"x"') == (
        '<p class="&quot;x&quot;">a &lt; b<br></p>'
    )
    assert join("&", Html("&amp;")) == "&amp;&amp;"


def test_a_drawing_takes_the_colour_of_the_page():
    assert "currentColor" in drawn()
    assert "#010203" not in drawn()


def test_ticks_that_are_made_on_drawing_take_the_colour_too():
    # Matplotlib's own black would vanish in a dark page.
    assert not re.search(r"(?:fill|stroke): ?#000000", drawn())


def test_a_drawing_says_its_title_and_caption_escaped():
    assert 'role="img" aria-label="Rates &amp; &lt;bars&gt;"' in drawn()
    assert "<figcaption>Read &lt;this&gt;.</figcaption>" in drawn()


def test_a_wide_drawing_keeps_a_width_at_which_it_can_be_read():
    # 0.94 pixels a point, 72 points an inch.
    assert 'style="min-width:406px"' in drawn(width=6.0)


def test_drawings_of_one_page_share_no_names():
    names = [set(re.findall(r' id="([^"]*)"', drawn(title=title))) for title in ("one", "another")]
    assert names[0]
    assert not names[0] & names[1]


def test_the_same_drawing_is_the_same_text():
    assert drawn() == drawn()


def test_a_histogram_fits_a_telephone():
    made = histogram({"a": [1, 2]}, label="", limits=[], limits_label="", title="t")
    # 400 pixels without the margins of the page.
    assert int(re.search(r"min-width:(\d+)px", made)[1]) <= 368


def test_rows_of_another_length_than_the_header_are_refused():
    with pytest.raises(ValueError, match="align='lr'"):
        table(["a", "b"], [["1"]], "lr")
