from dataclasses import replace

import pytest

from pipelines import federate
from tfasr.artifacts.files import read_json_lines
from tfasr.training.run import Run

pytestmark = pytest.mark.federated


def test_the_stage_writes_a_run_and_says_what_came_of_it(config, ranking, capsys):
    config = replace(config, ranking=config.out.parent / "ranking.json", rounds=1)
    ranking.write(config.ranking)
    federate.run(config)
    told = capsys.readouterr().out
    assert "3 clients, 12 utterances" in told
    assert "inner units kept by block: 64 32" in told
    assert "after 1 rounds" in told
    assert Run(config.out).checkpoints.steps() == [0, 1]
    rows = read_json_lines(config.out / "rounds.jsonl")
    assert all(0 <= row["wer"] for row in rows)
    federate.run(config)
    assert "already ran 1 rounds" in capsys.readouterr().out


def test_a_ranking_of_another_model_is_refused(config, ranking):
    config = replace(config, ranking=config.out.parent / "ranking.json")
    replace(ranking, model_hash="0" * 64).write(config.ranking)
    with pytest.raises(ValueError, match=r"ranking\.json: ranks another model"):
        federate.run(config)
