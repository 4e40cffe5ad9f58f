import json
from dataclasses import replace
from pathlib import Path

import pytest

from tfasr.study.ranking import Ranking, Score


@pytest.fixture(scope="module")
def ranking(rank_blocks):
    return rank_blocks({3: -0.01, 0: 0.02, 2: 0.3, 1: 0.9}, seeds=(1, 2))


def test_a_ranking_is_read_as_it_was_written(ranking, tmp_path):
    ranking.write(tmp_path / "study" / "ranking.json")
    assert Ranking.read(tmp_path / "study" / "ranking.json") == ranking


def test_a_ranking_is_plain_json(ranking, tmp_path):
    ranking.write(tmp_path / "ranking.json")
    values = json.loads((tmp_path / "ranking.json").read_text())
    assert values["blocks"][0]["blocks"] == [3]
    assert values["blocks"][0]["interval"] == [-0.02, 0.0]
    assert values["seeds"] == [1, 2]


@pytest.mark.parametrize(("count", "expected"), [(0, ()), (1, (3,)), (3, (3, 0, 2))])
def test_the_most_ambient_blocks_have_the_smallest_penalty(ranking, count, expected):
    assert ranking.most_ambient(count) == expected


@pytest.mark.parametrize(("count", "expected"), [(0, ()), (1, (1,)), (3, (1, 2, 0))])
def test_the_most_critical_blocks_have_the_largest_penalty(ranking, count, expected):
    assert ranking.most_critical(count) == expected


@pytest.mark.parametrize("choose", [Ranking.most_ambient, Ranking.most_critical])
@pytest.mark.parametrize("count", [-1, 5])
def test_more_blocks_than_there_are_cannot_be_chosen(ranking, choose, count):
    with pytest.raises(ValueError, match=f"a model of 4 blocks has no {count} of them"):
        choose(ranking, count)


def test_blocks_that_are_not_by_rising_penalty_are_refused(ranking):
    with pytest.raises(ValueError, match="penalty"):
        replace(ranking, blocks=ranking.blocks[::-1])


def test_a_model_that_errs_on_nine_words_of_ten_is_deaf(ranking):
    assert replace(ranking, baseline_wer=0.9).is_deaf
    assert not replace(ranking, baseline_wer=0.89).is_deaf


def test_the_model_that_was_studied_is_accepted(ranking):
    ranking.require_model("0123456789abcdef", Path("ranking.json"))


def test_another_model_is_refused_with_both_hashes(ranking):
    message = r"run/ranking\.json: ranks another model, with hash 0123456789ab; got ffffffffffff\."
    with pytest.raises(ValueError, match=message):
        ranking.require_model("f" * 64, Path("run/ranking.json"))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '"text"',
        '{"blocks": []}',
        '{"blocks": 1, "seeds": []}',
        '{"blocks": [{"block": 1}], "modules": [], "cumulative": [], "pairs": [], "seeds": []}',
        '{"blocks": [1], "seeds": []}',
    ],
)
def test_a_file_that_is_no_ranking_is_named(ranking, tmp_path, content):
    (tmp_path / "ranking.json").write_text(content)
    with pytest.raises(ValueError, match=r"ranking\.json: must be a ranking made by `tfasr study`"):
        Ranking.read(tmp_path / "ranking.json")


def test_a_ranking_with_a_field_too_many_is_named(ranking, tmp_path):
    ranking.write(tmp_path / "ranking.json")
    values = json.loads((tmp_path / "ranking.json").read_text())
    (tmp_path / "ranking.json").write_text(json.dumps({**values, "colour": "red"}))
    with pytest.raises(ValueError, match=r"ranking\.json: .*colour"):
        Ranking.read(tmp_path / "ranking.json")


def test_a_missing_ranking_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        Ranking.read(tmp_path / "none.json")


def test_parts_of_every_kind_are_read_as_they_were_written(ranking, tmp_path):
    module = Score(blocks=(2,), module="attention", penalty=0.1, interval=(0.0, 0.2))
    pair = Score(blocks=(0, 3), penalty=0.4, interval=(0.3, 0.5), rerandomised_wer=(0.5, 0.6))
    whole = replace(ranking, modules=(module,), cumulative=(pair,), pairs=(pair,))
    whole.write(tmp_path / "ranking.json")
    assert Ranking.read(tmp_path / "ranking.json") == whole


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.01, 0.019, "ambient"), (-0.01, 0.02, "undecided"), (0.02, 0.3, "critical")],
)
def test_only_an_interval_under_the_margin_is_ambient(low, high, expected):
    assert Score(blocks=(0,), penalty=0.01, interval=(low, high)).verdict(0.02) == expected


def test_a_signal_has_no_verdict():
    with pytest.raises(ValueError, match="a margin needs the penalties of resets; block 4 has"):
        Score(blocks=(4,), penalty=7.0).verdict(0.02)


def test_ambient_blocks_are_those_under_the_margin(ranking):
    assert ranking.ambient(0.01) == (3,)
    assert ranking.ambient(0.5) == (3, 0, 2)


def test_penalties_are_by_block(ranking):
    assert list(ranking.penalties().items()) == [(0, 0.02), (1, 0.9), (2, 0.3), (3, -0.01)]


@pytest.mark.parametrize(
    ("blocks", "module", "expected"),
    [((3,), "", "3"), ((3,), "attention", "3 attention"), ((3, 5), "", "3 + 5")],
)
def test_a_score_is_named_by_what_was_reset(blocks, module, expected):
    assert Score(blocks=blocks, module=module, penalty=0.0).name == expected


def test_two_blocks_together_are_no_entry_of_a_ranking(ranking):
    pair = Score(blocks=(0, 1), penalty=0.0)
    with pytest.raises(ValueError, match=r"each block must stand once, alone; got \[\(0, 1\)\]"):
        replace(ranking, blocks=(pair,))
