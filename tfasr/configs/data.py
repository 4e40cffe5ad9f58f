"""Batching."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Utterances of like duration batched together.

    Args:
        batch_seconds: Audio in a full batch, padding included, in seconds.
        max_utterances: Most utterances in a batch.
        num_buckets: Length classes; their edges are quantiles of the durations.
        min_seconds: Shorter utterances are left out, counted and reported.
        max_seconds: Longer utterances are left out, counted and reported.
        shuffle_utterances: Utterances in the shuffle buffer.
    """

    batch_seconds: float = 60.0
    max_utterances: int = 256
    num_buckets: int = 6
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    shuffle_utterances: int = 4096

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(
                "min_seconds must lie under max_seconds; "
                f"got min_seconds={self.min_seconds} s, max_seconds={self.max_seconds} s"
            )
        if self.num_buckets < 1 or self.max_utterances < 1:
            raise ValueError(
                "num_buckets and max_utterances must be at least 1; "
                f"got num_buckets={self.num_buckets}, max_utterances={self.max_utterances}"
            )
