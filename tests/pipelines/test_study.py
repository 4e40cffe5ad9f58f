import shutil
from dataclasses import replace

import pytest

from pipelines import study
from tfasr.artifacts.files import read_json
from tfasr.configs.loading import read_yaml, to_yaml
from tfasr.configs.study import StudyConfig
from tfasr.study.ranking import Ranking


@pytest.fixture(scope="module")
def config(tiny_run, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    what = ("blocks", "modules", "cumulative", "pairs")
    return StudyConfig(
        run=tiny_run.folder,
        data=tiny_data.folder,
        out=out,
        what=what,
        draws=1,
        margin=0.3,
        signals=True,
        over_training=True,
    )


@pytest.fixture(scope="module")
def ranking(config):
    study.run(config)
    return Ranking.read(config.folder / "ranking.json")


def test_every_part_that_was_asked_for_is_ranked(ranking):
    assert {score.blocks for score in ranking.blocks} == {(0,), (1,)}
    assert {score.module for score in ranking.modules} >= {"attention", "convolution"}
    assert [score.blocks for score in ranking.cumulative][-1] == (0, 1)
    assert ranking.cumulative[0] == ranking.blocks[0]
    assert [score.blocks for score in ranking.pairs] == [(0, 1)]
    assert ranking.pairs[0].penalty == ranking.cumulative[-1].penalty
    assert ranking.words == 15


def test_the_ranking_says_what_the_blocks_resets_took(config, ranking):
    settings = config.folder.glob("errors/*/settings.json")
    [kept] = [path.parent for path in settings if read_json(path)["model"] == ranking.model_hash]
    taken = [read_json(kept / f"block-{block}.json")["seconds"] for block in (0, 1)]
    assert ranking.seconds == pytest.approx(sum(taken))
    assert min(taken) > 0


def test_the_report_stands_beside_the_ranking(config, ranking):
    names = {path.name for path in config.folder.iterdir()}
    tables = {"blocks.csv", "modules.csv", "cumulative.csv", "pairs.csv", "signals.csv"}
    assert names >= {"report.html", "ranking.json", *tables}
    assert "tfasr study --run" in (config.folder / "report.html").read_text()


def test_a_signal_ranks_without_intervals(config, tmp_path, capsys):
    simple = replace(config, what=("blocks",), signals=False, over_training=False)
    study.run(replace(simple, method="churn", out=tmp_path))
    found = Ranking.read(tmp_path / "ranking.json")
    assert found.method == "churn"
    assert [score.interval for score in found.blocks] == [None, None]
    assert found.blocks[0].penalty <= found.blocks[1].penalty
    assert "by churn, most ambient first" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match="a margin needs the penalties of resets"):
        found.ambient(0.1)


def test_other_studies_are_compared(config, ranking, tiny_run, tmp_path):
    simple = replace(config, what=("blocks",), signals=False, over_training=False)
    other = tmp_path / "other"
    shutil.copytree(tiny_run.folder, other)
    values = read_yaml(other / "config.yaml")
    values["train"]["seed"] = 7
    (other / "config.yaml").write_text(to_yaml(values))
    study.run(replace(simple, run=other, out=None))
    study.run(replace(simple, out=tmp_path / "both", beside=(other,)))
    page = (tmp_path / "both" / "report.html").read_text()
    assert "2 blocks, 16 wide, group norm" in page


def test_too_few_words_for_the_margin_stop_it_before_anything_is_evaluated(config, tmp_path):
    with pytest.raises(ValueError, match=r"needs 300 words or more .*; got 15 words"):
        study.run(replace(config, margin=0.01, out=tmp_path / "none"))
    assert not (tmp_path / "none").exists()
