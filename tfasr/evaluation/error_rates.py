"""Word and character error rates with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray

from tfasr.configs.seeds import counted_generator

_RESAMPLES = 2000
# Resamples are drawn in slices, so that memory stays bounded for large test sets.
_SLICE = 50


@dataclass(frozen=True)
class EditCounts:
    """Errors of each utterance, at the least edit distance.

    Args:
        substitutions: [N] int64.
        insertions: [N] int64.
        deletions: [N] int64.
        length: [N] int64, reference units.
    """

    substitutions: NDArray[np.int64]
    insertions: NDArray[np.int64]
    deletions: NDArray[np.int64]
    length: NDArray[np.int64]

    @property
    def errors(self) -> NDArray[np.int64]:
        """[N] int64, all errors."""
        return np.asarray(self.substitutions + self.insertions + self.deletions)

    @property
    def rate(self) -> float:
        """Errors by reference units; may pass 1."""
        return float(self.errors.sum() / max(1, self.length.sum()))


def count_word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> EditCounts:
    """Aligns words."""
    return _count([r.split() for r in references], [h.split() for h in hypotheses])


def count_character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> EditCounts:
    """Aligns characters, spaces included."""
    return _count([list(r) for r in references], [list(h) for h in hypotheses])


def _count(references: list[list[str]], hypotheses: list[list[str]]) -> EditCounts:
    if len(references) != len(hypotheses):
        raise ValueError(
            "every reference needs a hypothesis; "
            f"got {len(references)} references, {len(hypotheses)} hypotheses"
        )
    rows = [_align(*pair) for pair in zip(references, hypotheses, strict=True)]
    table = np.array(rows, np.int64).reshape(-1, 4)
    return EditCounts(*table.T)


def _align(reference: list[str], hypothesis: list[str]) -> tuple[int, int, int, int]:
    # jiwer takes sentences and refuses an empty reference: units go in as single characters.
    if not reference:
        return 0, len(hypothesis), 0, 0
    units = {unit: chr(0xE000 + i) for i, unit in enumerate(dict.fromkeys(reference + hypothesis))}
    out = jiwer.process_characters(
        "".join(units[u] for u in reference), "".join(units[u] for u in hypothesis)
    )
    return out.substitutions, out.insertions, out.deletions, len(reference)


def bootstrap_interval(counts: EditCounts, seed: int = 0) -> tuple[float, float]:
    """Computes the 95 % interval of the error rate over resampled utterances.

    Args:
        counts: Errors of each utterance.
        seed: Of the resampling.

    Returns:
        Lower and upper end.

    Source: Bisani & Ney (2004), "Bootstrap estimates for confidence intervals in ASR
    performance evaluation", section 3.
    """
    rates = resampled_rates([counts.errors], counts.length, seed)[0]
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def resampled_rates(
    errors: Sequence[NDArray[Any]], length: NDArray[np.int64], seed: int = 0
) -> NDArray[np.float64]:
    """Error rates of systems over the same resampled utterances, for paired comparison.

    Args:
        errors: Of each system, [N] errors by utterance.
        length: [N] reference units.
        seed: Of the resampling.

    Returns:
        [systems, 2000] error rates.
    """
    generator = counted_generator(seed, "bootstrap")
    stacked = np.stack([*errors, length]).astype(np.float64)  # [systems + 1, N]
    utterances = stacked.shape[1]
    sums = []
    for _ in range(0, _RESAMPLES, _SLICE):
        chosen = generator.integers(utterances, size=(_SLICE, utterances))
        sums.append(stacked[:, chosen].sum(-1))
    totals = np.concatenate(sums, 1)
    return np.asarray(totals[:-1] / np.maximum(1, totals[-1]))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluation.json` says; rates are shares, not percent."""

    wer: float
    wer_interval: tuple[float, float]
    cer: float
    cer_interval: tuple[float, float]
    substitutions: int
    insertions: int
    deletions: int
    words: int
    utterances: int

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        return asdict(self)


def evaluate_texts(references: Sequence[str], hypotheses: Sequence[str]) -> Evaluation:
    """Computes the error rates of hypotheses with their intervals.

    Raises:
        ValueError: There are no references, or not as many hypotheses.
    """
    if not references:
        raise ValueError("an evaluation needs utterances; got none")
    words = count_word_errors(references, hypotheses)
    characters = count_character_errors(references, hypotheses)
    return Evaluation(
        wer=words.rate,
        wer_interval=bootstrap_interval(words),
        cer=characters.rate,
        cer_interval=bootstrap_interval(characters),
        substitutions=int(words.substitutions.sum()),
        insertions=int(words.insertions.sum()),
        deletions=int(words.deletions.sum()),
        words=int(words.length.sum()),
        utterances=len(references),
    )
