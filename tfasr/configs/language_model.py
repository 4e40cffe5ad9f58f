"""Language models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HIGHEST_ORDER = 6


def thresholds_of_orders(order: int, prune: tuple[int, ...]) -> tuple[int, ...]:
    """Gives each order its pruning threshold.

    Args:
        order: Words of the longest n-grams.
        prune: Thresholds of orders 1, 2 and so on; the last one holds for the orders above it,
            and none at all are zeros.

    Returns:
        `order` thresholds.

    Raises:
        ValueError: The order is out of range, or the thresholds are not 0 and rising.
    """
    if not 1 <= order <= HIGHEST_ORDER:
        raise ValueError(f"order must be from 1 to {HIGHEST_ORDER}; got order={order}")
    if len(prune) > order:
        raise ValueError(f"prune must have at most order={order} thresholds; got {list(prune)}")
    # With a falling threshold an n-gram would stay whose context is gone.
    if prune and (prune[0] != 0 or list(prune) != sorted(prune)):
        raise ValueError(f"prune must start with 0 and must not fall; got {list(prune)}")
    return (*prune, *((prune or (0,))[-1:] * (order - len(prune))))


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Trains an n-gram language model with modified Kneser-Ney smoothing.

    Args:
        source: A folder made by `tfasr prepare`, whose training text is taken but for withheld
            domains, or a text file of a sentence a line, as it is or as .gz.
        out: The language model to write, in ARPA format; what it was made of is written beside
            it, to `OUT.json`.
        unit: "token" is what `tfasr evaluate` decodes with; "word" is for other programs.
        order: Words or tokens of the longest n-grams, 1 to 6.
        prune: Drop n-grams seen so often or less, a threshold for each order from the first,
            which must be 0; the last one holds for the orders above it.
        tokenizer: The SentencePiece model that cuts text into tokens, such as a run's
            `tokenizer.model`; a folder made by `tfasr prepare` has one of its own.
    """

    source: Path
    out: Path
    unit: Literal["token", "word"] = "token"
    order: int = 3
    prune: tuple[int, ...] = ()
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        thresholds_of_orders(self.order, self.prune)
        if self.unit == "word" and self.tokenizer is not None:
            raise ValueError(
                f"a tokenizer is for unit=token; got unit=word, tokenizer={self.tokenizer}"
            )
