import json
from dataclasses import replace
from pathlib import Path

import pytest

from tfasr.study.ranking import BlockScore, Ranking


def score(block, penalty):
    return BlockScore(
        block=block,
        wer=0.1 + penalty,
        penalty=penalty,
        interval=(penalty - 0.01, penalty + 0.01),
        reinitialised_wer=0.2,
        rerandomised_wer=(0.1, 0.3),
    )


RANKING = Ranking(
    blocks=(score(3, -0.01), score(0, 0.02), score(2, 0.3), score(1, 0.9)),
    baseline_wer=0.1,
    method="rerandomise",
    seeds=(1, 2),
    step=1000,
    model_hash="0123456789abcdef",
    data_hash="fedc",
    utterances=300,
    words=1500,
    command="tfasr study --run run",
)


def test_a_ranking_is_read_as_it_was_written(tmp_path):
    RANKING.write(tmp_path / "study" / "ranking.json")
    assert Ranking.read(tmp_path / "study" / "ranking.json") == RANKING


def test_a_ranking_is_plain_json(tmp_path):
    RANKING.write(tmp_path / "ranking.json")
    values = json.loads((tmp_path / "ranking.json").read_text())
    assert values["blocks"][0]["block"] == 3
    assert values["blocks"][0]["interval"] == [-0.02, 0.0]
    assert values["seeds"] == [1, 2]


@pytest.mark.parametrize(("count", "expected"), [(0, ()), (1, (3,)), (3, (3, 0, 2))])
def test_the_most_ambient_blocks_have_the_smallest_penalty(count, expected):
    assert RANKING.most_ambient(count) == expected


@pytest.mark.parametrize(("count", "expected"), [(0, ()), (1, (1,)), (3, (1, 2, 0))])
def test_the_most_critical_blocks_have_the_largest_penalty(count, expected):
    assert RANKING.most_critical(count) == expected


@pytest.mark.parametrize("choose", [Ranking.most_ambient, Ranking.most_critical])
@pytest.mark.parametrize("count", [-1, 5])
def test_more_blocks_than_there_are_cannot_be_chosen(choose, count):
    with pytest.raises(ValueError, match=f"a model of 4 blocks has no {count} of them"):
        choose(RANKING, count)


def test_blocks_that_are_not_by_rising_penalty_are_refused():
    with pytest.raises(ValueError, match="penalty"):
        replace(RANKING, blocks=RANKING.blocks[::-1])


def test_the_model_that_was_studied_is_accepted():
    RANKING.require_model("0123456789abcdef", Path("ranking.json"))


def test_another_model_is_refused_with_both_hashes():
    message = r"run/ranking\.json: ranks another model, with hash 0123456789ab; got ffffffffffff\."
    with pytest.raises(ValueError, match=message):
        RANKING.require_model("f" * 64, Path("run/ranking.json"))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '"text"',
        '{"blocks": []}',
        '{"blocks": 1, "seeds": []}',
        '{"blocks": [{"block": 1}], "seeds": []}',
        '{"blocks": [1], "seeds": []}',
    ],
)
def test_a_file_that_is_no_ranking_is_named(tmp_path, content):
    (tmp_path / "ranking.json").write_text(content)
    with pytest.raises(ValueError, match=r"ranking\.json: must be a ranking made by `tfasr study`"):
        Ranking.read(tmp_path / "ranking.json")


def test_a_ranking_with_a_field_too_many_is_named(tmp_path):
    RANKING.write(tmp_path / "ranking.json")
    values = json.loads((tmp_path / "ranking.json").read_text())
    (tmp_path / "ranking.json").write_text(json.dumps({**values, "colour": "red"}))
    with pytest.raises(ValueError, match=r"ranking\.json: .*colour"):
        Ranking.read(tmp_path / "ranking.json")


def test_a_missing_ranking_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        Ranking.read(tmp_path / "none.json")
