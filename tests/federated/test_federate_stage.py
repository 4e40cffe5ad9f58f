from dataclasses import replace

import pytest

from pipelines import federate

pytestmark = pytest.mark.federated


def test_a_ranking_of_another_model_is_refused(config, ranking):
    config = replace(config, ranking=config.out.parent / "ranking.json")
    replace(ranking, model_hash="0" * 64).write(config.ranking)
    with pytest.raises(ValueError, match=r"ranking\.json: ranks another model"):
        federate.run(config)
