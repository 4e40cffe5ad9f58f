import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tfasr.models.churn import Churn
from tfasr.study.comparison import Studied
from tfasr.study.report import Study, write_report
from tfasr.study.signals import Signal

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"
MARGIN = 0.02
CHURN = Churn(
    step=1000,
    modules=("attention", "norm"),
    moved=np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 0.0]]),
    first=np.full([2, 3], 2.0),
)


class Reader(HTMLParser):
    """Reads a page's sections: their text, and the cells of their tables' rows."""

    def __init__(self, page):
        super().__init__()
        self.text, self.rows, self.open, self.section = {"": ""}, {"": []}, [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        if tag == "h2":
            self.section = dict(attributes)["id"]
            self.text[self.section], self.rows[self.section] = "", []
        if tag == "tr":
            self.rows[self.section].append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += data
        elif not {"style", "svg"} & set(self.open):
            self.text[self.section] += data


def table(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def bare(make_ranking):
    """Blocks alone: 0 is critical, 1 undecided, 2 ambient; the intervals reach 1 point."""
    return Study(
        ranking=make_ranking(0.08, 0.025, -0.01, seconds=48.5),
        margin=MARGIN,
        block_parameters=(1000, 2000, 3_000_000),
        total_parameters=6_006_000,
        command="tfasr study --run <run>",
    )


@pytest.fixture(scope="module")
def full(bare, make_ranking, make_score):
    """All that a study may hold."""
    sets = (((2,), -0.01), ((1, 2), 0.005), ((0, 1, 2), 0.9))
    pairs = (((1, 2), 0.01), ((0, 2), 0.06), ((0, 1), 0.2))
    ranking = replace(
        bare.ranking,
        modules=(make_score((2,), 0.0, "norm"), make_score((0,), 0.05, "attention")),
        cumulative=tuple(make_score(*one) for one in sets),
        pairs=tuple(make_score(*one) for one in pairs),
    )
    other = make_ranking(0.03, 0.02, 0.01)
    return replace(
        bare,
        ranking=ranking,
        over_training={100: make_ranking(0.0, 0.1, 0.2), 1000: ranking},
        churn=(replace(CHURN, step=100), CHURN),
        signals=(
            Signal(name="fisher", values=np.array([3.0, 2.0, 1.0]), seconds=2.5),
            Signal(name="loss", values=np.ones(3), seconds=0.5),
        ),
        others=(
            Studied(family="3 blocks", seed=1, ranking=other),
            Studied(family="3 blocks", seed=2, ranking=ranking),
            Studied(family="3 blocks", seed=2, ranking=replace(ranking, data_hash="other")),
        ),
    )


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a study, and reads its page."""

    def write(study):
        path = tmp_path_factory.mktemp("study") / "report.html"
        return write_report(path, study), Reader(path.read_text(encoding="utf-8"))

    return write


@pytest.fixture(scope="module")
def written(write, full):
    """The full study, which takes seconds to draw: its files, its page, and the same read."""
    files, page = write(full)
    return files, page, files[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bare_page(write, bare):
    return write(bare)


def test_sections_appear_only_where_there_is_something_to_tell(bare_page, written):
    assert list(bare_page[1].rows) == ["", "blocks", "savings", "made"]
    assert list(written[1].rows) == [
        "", "blocks", "savings", "cumulative", "modules", "pairs", "training", "families", "churn",
        "signals", "made",
    ]  # fmt: skip


def test_tables_stand_beside_the_page_only_where_there_is_something_in_them(bare_page, written):
    assert [path.name for path in bare_page[0]] == ["report.html", "blocks.csv"]
    assert [path.name for path in written[0]] == [
        "report.html", "blocks.csv", "modules.csv", "cumulative.csv", "pairs.csv",
        "over_training.csv", "families.csv", "churn.csv", "signals.csv",
    ]  # fmt: skip
    folder = written[0][0].parent
    assert {path.name for path in folder.iterdir()} == {path.name for path in written[0]}


def test_every_table_is_linked(written):
    linked = re.findall(r'href="(\w+\.csv)"', written[2])
    assert sorted(linked) == sorted(path.name for path in written[0][1:])


def test_the_page_loads_nothing(written):
    assert not re.findall(r'(?:src|href)="(?!#|\w+\.csv")|url\((?!#)|@import', written[2])


def test_links_within_the_page_lead_somewhere(written):
    names = re.findall(r' id="([^"]*)"', written[2])
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', written[2])) <= set(names)


def test_drawings_take_the_colour_of_the_page(written):
    assert written[2].count("<svg ") == 9
    assert "currentColor" in written[2]
    assert "#010203" not in written[2]


def test_the_command_is_shown_and_escaped(bare_page):
    assert "tfasr study --run <run>" in bare_page[1].text["made"]


def test_the_opening_says_what_was_done_and_on_how_much(bare_page):
    opening = bare_page[1].text[""]
    assert "through 3 blocks" in opening
    assert "drawn anew 2 times" in opening
    assert "the same 30 utterances of 1,500 words" in opening
    assert "it gets 10.00 % of the words wrong" in opening
    assert "a rise of 2 points (2 more wrong words in a hundred)" in opening


def test_the_opening_names_the_blocks_of_each_verdict(bare_page):
    opening = bare_page[1].text[""]
    assert "Ambient: block 2 (1 of 3)." in opening
    assert "Critical: block 0 (1 of 3)." in opening
    # 1 point of reach, 0.5 from the margin: four times the words.
    decide = "Undecided: block 1 (1 of 3). About so many words would decide: 6,000 for block 1."
    assert decide in opening


def test_the_opening_says_what_the_ambient_blocks_hold(bare_page):
    said = "The ambient blocks hold 3,000,000 parameters (50.0 % of the model, 12.0 MB); what they"
    assert said in bare_page[1].text[""]


def test_the_opening_says_what_the_most_ambient_cost_together(written):
    said = (
        f"Reset all at once, the 2 most ambient blocks cost +0.50 points ({MINUS}0.50 to +1.50), "
        "under the margin. Left random, 3,002,000 parameters (50.0 % of the model, 12.0 MB) need"
    )
    assert said in written[1].text[""]


def test_a_block_on_the_margin_is_decided_by_no_number_of_words(write, bare, make_ranking):
    page = write(replace(bare, ranking=make_ranking(0.5, 0.02, 0.5)))[1]
    assert "As block 1 lies just on the margin, no number of words would." in page.text[""]
    assert page.rows["blocks"][1][6] == "no number"


def test_where_nothing_is_ambient_nothing_is_saved(write, bare, make_ranking):
    page = write(replace(bare, ranking=make_ranking(0.5, 0.6, 0.7)))[1]
    assert "Ambient: no block." in page.text[""]
    assert "savings" not in page.text


def test_blocks_are_listed_with_the_most_ambient_first(bare_page):
    assert bare_page[1].rows["blocks"][1:] == [
        ["2", "ambient", "9.00 %", f"{MINUS}1.00", f"{MINUS}2.00 to +0.00", "9.50 %", NONE,
         "3,000,000"],
        ["1", "undecided", "12.50 %", "+2.50", "+1.50 to +3.50", "11.25 %", "6,000", "2,000"],
        ["0", "critical", "18.00 %", "+8.00", "+7.00 to +9.00", "14.00 %", NONE, "1,000"],
    ]  # fmt: skip


def test_blocks_as_a_file_are_shares_not_points(bare_page):
    rows = table(bare_page[0][1])
    assert [row["block"] for row in rows] == ["2", "1", "0"]
    assert rows[2] == {
        "block": "0",
        "verdict": "critical",
        "penalty": "0.08",
        "low": "0.07",
        "high": "0.09",
        "rerandomised_wer": "0.18",
        "reinitialised_wer": "0.14",
        "intact_wer": "0.1",
        "parameters": "1000",
    }


def test_what_the_ambient_blocks_save_is_counted(written):
    assert written[1].rows["savings"][1:] == [
        ["ambient, each by itself", "1", "3,000,000", "99.9 %", "50.0 %", "12.0 MB"],
        ["ambient even all at once", "2", "3,002,000", "100.0 %", "50.0 %", "12.0 MB"],
    ]


def test_sets_are_listed_with_the_block_that_each_adds(written):
    rows = written[1].rows["cumulative"][1:]
    assert [row[:3] for row in rows] == [
        ["1", "2", "ambient"],
        ["2", "1", "ambient"],
        ["3", "0", "critical"],
    ]
    assert [row["blocks"] for row in table(written[0][3])] == ["2", "1 2", "0 1 2"]


def test_only_pairs_that_cost_more_together_are_listed(written):
    # Blocks 1 and 2 cost 1.5 points apart and 1 together; 0 and 2 cost 7 and 6.
    assert written[1].rows["pairs"][1:] == [["0 + 1", "+20.00", "+10.50", "+9.50"]]
    assert len(table(written[0][4])) == 3


def test_checkpoints_are_listed_with_their_agreement(written):
    # At step 100, blocks 0 and 1 are in the order of the end's blocks 2 and 1.
    rows = written[1].rows["training"][1:]
    assert rows == [["100", "10.00 %", "1", f"{MINUS}1.00"], ["1,000", "10.00 %", "1", "1.00"]]
    assert [row["step"] for row in table(written[0][5])] == ["100"] * 3 + ["1000"] * 3


def test_families_are_listed_with_their_stability(written):
    rows = written[1].rows["families"]
    assert rows[1:3] == [
        ["3 blocks, set 9a9a9a9a", "2", "10.00 %", "10.00 % to 10.00 %", "0, 1", "3", "1.00"],
        ["3 blocks, set other", "1", "10.00 %", NONE, "1", "3", "not defined"],
    ]


def test_two_evaluation_sets_of_a_model_are_compared(write, bare, full):
    first, _, third = full.others
    page = write(replace(bare, others=(replace(first, seed=2), third)))[1]
    row = page.rows["families"][-1]
    assert row == ["3 blocks", "2", "1,500 (9a9a9a9a)", "1,500 (other)", "1.00"]


def test_churn_is_correlated_with_resets_of_block_and_module(written):
    # Penalties fall with the index, attention's churn rises; norm was reset in block 2 alone.
    rows = written[1].rows["churn"][1:]
    assert rows[0][:3] == ["attention", f"{MINUS}1.00", f"{MINUS}1.00"]
    assert rows[1][3:] == ["not defined", "not defined"]
    last = table(written[0][7])[-1]
    assert last == {
        "step": "1000",
        "module": "norm",
        "block": "2",
        "moved": "0",
        "first": "2",
        "normalised": "0",
        "relative": "0",
    }


def test_a_model_that_hears_nothing_is_said_to_tell_nothing(write, bare):
    deaf = replace(bare, ranking=replace(bare.ranking, baseline_wer=0.95))
    warning = "train the model longer before you rely on anything on this page"
    assert warning in write(deaf)[0][0].read_text()
    assert warning not in write(bare)[0][0].read_text()


def test_signals_are_listed_by_what_they_are_worth(written):
    assert written[1].rows["signals"][1:] == [
        ["fisher", "1.00", "1.00", "2.50"],
        ["loss", "not defined", "not defined", "0.50"],
        ["the resets themselves", "1.00", "1.00", "48.50"],
    ]
    rows = table(written[0][8])
    assert (rows[0]["block_0"], rows[1]["spearman"]) == ("3", "")


def test_a_ranking_by_a_signal_claims_no_error_rates(write, bare, by_signal):
    study = replace(bare, ranking=by_signal(bare.ranking), churn=(CHURN,))
    files, page = write(study)
    assert "No block was reset to find out" in page.text[""]
    assert "Most likely to be dispensable is block 2, least likely block 0." in page.text[""]
    assert list(page.rows) == ["", "blocks", "churn", "made"]
    assert page.rows["churn"] == []
    assert [row["penalty"] for row in table(files[1])] == ["-0.01", "0.025", "0.08"]


def test_the_first_weights_are_named_where_they_make_the_penalty(write, bare):
    page = write(replace(bare, ranking=replace(bare.ranking, method="reinitialise")))[1]
    assert "its weights were put back to what they were before training" in page.text[""]
    assert "put back to its weights from before training" in page.text["blocks"]


def test_parameters_of_other_blocks_are_refused(bare):
    with pytest.raises(ValueError, match=r"got 2 numbers, blocks \[0, 1, 2\]"):
        replace(bare, block_parameters=(1, 2))
