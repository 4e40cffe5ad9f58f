"""What a model with a decoder is trained for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JointObjective:
    """CTC beside a decoder's attention losses.

    The defaults are those of Wu (2022), "Deep Sparse Conformer", section 4.1, eq. 16.

    Args:
        ctc_weight: Share of the CTC loss, in [0, 1]; the decoder has the rest.
        reverse_weight: Share of the decoder from the right in the decoder's part, in [0, 1]; of
            no effect where a model has none.
        smoothing: Probability that a target leaves to the other tokens, in [0, 1).
    """

    ctc_weight: float = 0.3
    reverse_weight: float = 0.3
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.ctc_weight <= 1 and 0 <= self.reverse_weight <= 1):
            raise ValueError(
                "ctc_weight and reverse_weight must be in [0, 1]; "
                f"got ctc_weight={self.ctc_weight}, reverse_weight={self.reverse_weight}"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1); got smoothing={self.smoothing}")
