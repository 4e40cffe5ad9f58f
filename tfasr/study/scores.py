"""From the errors of a study to scores with intervals."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tfasr.evaluation.error_rates import resampled_rates
from tfasr.study.ranking import Score
from tfasr.study.reset import ResetErrors
from tfasr.study.resets import Reset

# Errors none of which was seen may still be this many, at 95 %: (1 - 3 / n)^n is about 0.05.
_UNSEEN = 3.0


def score_reset(
    reset: Reset,
    errors: ResetErrors,
    intact: NDArray[np.int64],
    words: NDArray[np.int64],
    by_first_weights: bool = False,
) -> Score:
    """Scores parts of a model by the errors that their reset adds.

    Args:
        reset: The parts.
        errors: With them reset.
        intact: [N] errors of the intact model.
        words: [N] reference words.
        by_first_weights: Whether the weights of step 0 make the penalty, not fresh ones.

    Returns:
        The score. Its interval is over utterances, the same ones drawn for both models, with
        the draws' errors averaged.

    Source: Bisani & Ney (2004), "Bootstrap estimates for confidence intervals in ASR performance
        evaluation", section 4, for the paired difference.
    """
    total = max(1, int(words.sum()))
    mean = errors.reinitialised if by_first_weights else errors.rerandomised.mean(0)
    resampled = resampled_rates([mean, intact], words)
    low, high = np.quantile(resampled[0] - resampled[1], [0.025, 0.975])
    return Score(
        blocks=reset.blocks,
        module=reset.module,
        penalty=float((mean.sum() - intact.sum()) / total),
        interval=(float(low), float(high)),
        reinitialised_wer=float(errors.reinitialised.sum() / total),
        rerandomised_wer=tuple(float(e.sum() / total) for e in errors.rerandomised),
    )


def by_penalty(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Sorts the most ambient first; of equals, the lower block."""
    return tuple(sorted(scores, key=lambda score: (score.penalty, score.blocks, score.module)))


def require_words(words: int, margin: float) -> None:
    """Refuses an evaluation set that can't show a penalty to lie under a margin.

    Even a block whose reset adds no error to n words may add 3 / n of them elsewhere.

    Args:
        words: Reference words in the set.
        margin: The largest penalty of an ambient block, as a share of words.

    Raises:
        ValueError: There are too few; says how many are needed.
    """
    needed = math.ceil(_UNSEEN / margin)
    if words < needed:
        raise ValueError(
            f"a margin of {100 * margin:g} % of words needs {needed} words or more to be "
            f"evaluated on, for {words} without an error may hide {_UNSEEN / max(words, 1):.1%}; "
            f"got {words} words. Take a larger --split or more --domains, or a wider --margin"
        )


def words_to_decide(score: Score, margin: float, words: int) -> int:
    """Estimates how many words would tell whether a part is ambient.

    Args:
        score: With an interval that holds the margin.
        margin: The largest penalty of an ambient block.
        words: That the interval was made of.

    Returns:
        Words at which an interval around the same penalty would end at the margin; its width
        goes with the root of their number. 0 where the penalty is the margin.

    Raises:
        ValueError: It has no interval.
    """
    if score.interval is None:
        raise ValueError(f"block {score.name} has a signal only, and no interval")
    low, high = score.interval
    reach = high - score.penalty if score.penalty < margin else score.penalty - low
    distance = abs(score.penalty - margin)
    return math.ceil(words * (reach / distance) ** 2) if distance else 0
