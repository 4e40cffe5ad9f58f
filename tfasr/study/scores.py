"""From the errors of a study to scores with intervals."""

import numpy as np
from numpy.typing import NDArray

from tfasr.evaluation.error_rates import resampled_rates
from tfasr.study.ranking import BlockScore
from tfasr.study.reset import BlockErrors


def score_block(
    block: int, errors: BlockErrors, intact: NDArray[np.int64], words: NDArray[np.int64]
) -> BlockScore:
    """Scores a block by the errors that fresh weights in it add.

    Args:
        block: Its index.
        errors: With the block reset.
        intact: [N] errors of the intact model.
        words: [N] reference words.

    Returns:
        The score. Its interval is over utterances, the same ones drawn for both models, with
        the draws' errors averaged.
    """
    total = max(1, int(words.sum()))
    mean = errors.rerandomised.mean(0)
    resampled = resampled_rates([mean, intact], words)
    low, high = np.quantile(resampled[0] - resampled[1], [0.025, 0.975])
    return BlockScore(
        block=block,
        wer=float(mean.sum() / total),
        penalty=float((mean.sum() - intact.sum()) / total),
        interval=(float(low), float(high)),
        reinitialised_wer=float(errors.reinitialised.sum() / total),
        rerandomised_wer=tuple(float(e.sum() / total) for e in errors.rerandomised),
    )


def by_penalty(scores: list[BlockScore]) -> tuple[BlockScore, ...]:
    """Sorts the most ambient block first; of equals, the lower one."""
    return tuple(sorted(scores, key=lambda score: (score.penalty, score.block)))
