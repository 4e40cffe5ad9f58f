"""Batching."""

from dataclasses import dataclass
from typing import Literal

# Where utterances are read from.
Reading = Literal["shards", "recordings"]


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Utterances of like duration batched together.

    Args:
        batch_seconds: Audio in a full batch, padding included, in seconds.
        max_utterances: Most utterances in a batch.
        num_buckets: Length classes, at most; their edges are chosen to need least padding.
        min_seconds: Shorter utterances are left out, counted and reported.
        max_seconds: Longer utterances are left out, counted and reported.
        shuffle_utterances: Utterances in the shuffle buffer, which holds their 16-bit audio.
        reading: "shards" reads the prepared shards; "recordings" decodes the corpus's own files.
        service: Host and port of the dispatcher of a tf.data service (`tfasr data-service`)
            that makes the batches; "" makes them here. With a service the order of batches
            depends on its workers, so that a resumed epoch is not exact.
    """

    batch_seconds: float = 60.0
    max_utterances: int = 256
    num_buckets: int = 16
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    shuffle_utterances: int = 1024
    reading: Reading = "shards"
    service: str = ""

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
        host, _, port = self.service.rpartition(":")
        if self.service and not (host and port.isdecimal()):
            raise ValueError(f"service must be HOST:PORT; got service={self.service!r}")
        if self.service and self.reading != "shards":
            raise ValueError(
                f"a data service reads shards; got service={self.service}, reading={self.reading}"
            )
