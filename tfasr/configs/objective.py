"""What a model with a decoder or a transducer is trained for."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JointObjective:
    """CTC beside a decoder's attention losses, or beside a transducer's.

    The defaults are those of Wu (2022), "Deep Sparse Conformer", section 4.1, eq. 16.

    Args:
        ctc_weight: Share of the CTC loss, in [0, 1]; the decoder or the transducer has the rest.
            Of no effect where a model has one of the two only.
        reverse_weight: Share of the decoder from the right in the decoder's part, in [0, 1]; of
            no effect where a model has none.
        smoothing: Probability that a target leaves to the other tokens, in [0, 1).
        fastemit: How much more a transducer's gradient wants tokens than blanks, so that it
            emits them earlier; Yu et al. (2021), "FastEmit". 0 for no such wish.
    """

    ctc_weight: float = 0.3
    reverse_weight: float = 0.3
    smoothing: float = 0.1
    fastemit: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.ctc_weight <= 1 and 0 <= self.reverse_weight <= 1):
            raise ValueError(
                "ctc_weight and reverse_weight must be in [0, 1]; "
                f"got ctc_weight={self.ctc_weight}, reverse_weight={self.reverse_weight}"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1); got smoothing={self.smoothing}")
        if not 0 <= self.fastemit < math.inf:
            raise ValueError(
                f"fastemit must be finite and not negative; got fastemit={self.fastemit}"
            )
