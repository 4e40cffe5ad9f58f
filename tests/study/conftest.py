"""Rankings made up of penalties."""

from collections.abc import Callable
from typing import Any

import pytest

from tfasr.study.ranking import Ranking, Score


def _score(blocks: tuple[int, ...], penalty: float, module: str = "", reach: float = 0.01) -> Score:
    """Fresh draws of an intact rate of 10 % around the penalty, and half of it with the first."""
    return Score(
        blocks=blocks,
        module=module,
        penalty=penalty,
        interval=(penalty - reach, penalty + reach),
        reinitialised_wer=0.1 + penalty / 2,
        rerandomised_wer=(0.1 + penalty - 0.02, 0.1 + penalty + 0.02),
    )


@pytest.fixture(scope="session")
def make_score() -> Callable[..., Score]:
    """Makes a score of blocks and a penalty, its interval 0.01 to either side."""
    return _score


@pytest.fixture(scope="session")
def make_ranking() -> Callable[..., Ranking]:
    """Makes a ranking by the penalties of blocks 0, 1, 2 and so on; intact are 10 %."""

    def make(*penalties: float, **others: Any) -> Ranking:
        scores = (_score((block,), penalty) for block, penalty in enumerate(penalties))
        given: dict[str, Any] = {
            "blocks": tuple(sorted(scores, key=lambda score: score.penalty)),
            "baseline_wer": 0.1,
            "method": "rerandomise",
            "seeds": (1, 2),
            "step": 1000,
            "model_hash": "4f" * 32,
            "data_hash": "9a" * 32,
            "utterances": 30,
            "words": 1500,
            "command": "",
        }
        return Ranking(**{**given, **others})

    return make


@pytest.fixture(scope="session")
def by_signal() -> Callable[..., Ranking]:
    """Turns a ranking by resets into one by a signal."""

    def turn(ranking: Ranking) -> Ranking:
        bare = tuple(Score(blocks=s.blocks, penalty=s.penalty) for s in ranking.blocks)
        return Ranking(**{**vars(ranking), "blocks": bare, "method": "relative_churn"})

    return turn
