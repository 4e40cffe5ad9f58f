"""What a round sends, told by the types of TFF's own process."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_federated as tff

from tfasr.federated.accounting import Account

# The clients' learning rate, what aggregators estimate and count, sums of loss and utterances.
SMALL_BYTES = 256
# Names of its type and the lengths of all that it lies in, about each tensor.
PROTOCOL_BYTES = 80


@dataclass(frozen=True)
class Message:
    """What goes one way between the server and a client in a round.

    Args:
        kinds: TFF's types of its parts.
    """

    kinds: Sequence[Any]

    @property
    def tensors(self) -> list[Any]:
        """Types of all tensors in it."""
        return [tensor for kind in self.kinds for tensor in _tensors(kind)]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(
            np.dtype(tensor.dtype).itemsize * math.prod(tensor.shape) for tensor in self.tensors
        )

    @property
    def serialised(self) -> int:
        """Bytes that TFF makes of them."""
        return sum(
            tff.framework.serialize_value(_zeros(kind), kind)[0].ByteSize() for kind in self.kinds
        )


def messages(process: tff.learning.templates.LearningProcess) -> tuple[Message, Message]:
    """Finds what a process sends a client in a round, and what the client returns.

    Args:
        process: That runs a round.
    """
    down: list[Any] = []
    up: list[Any] = []

    def look(block: Any) -> tuple[Any, bool]:
        if isinstance(block, tff.framework.Intrinsic):
            kind = block.type_signature
            if block.uri == "federated_broadcast":
                down.append(kind.parameter.member)
            elif block.uri == "federated_select":
                down.append(kind.result.member.element)
            elif _is_placed(kind.result, tff.SERVER):
                up.extend(_at_clients(kind.parameter))
        return block, False

    tff.framework.transform_postorder(process.next.to_building_block(), look)
    return Message(down), Message(up)


def check_counted(process: tff.learning.templates.LearningProcess, sizes: Account) -> None:
    """Compares the bytes that are counted of a model with those that TFF sends.

    Args:
        process: That runs a round.
        sizes: Counted.

    Raises:
        ValueError: They differ by more than `SMALL_BYTES`; or serialised, by more than
            `PROTOCOL_BYTES` a tensor besides.
    """
    counts = (sizes.bytes_down, sizes.bytes_up)
    for way, message, counted in zip(("down", "up"), messages(process), counts, strict=True):
        headers = PROTOCOL_BYTES * len(message.tensors)
        for what, size, most in (
            ("sends", message.size, counted + SMALL_BYTES),
            ("serialises", message.serialised, counted + SMALL_BYTES + headers),
        ):
            if not counted <= size <= most:
                raise ValueError(
                    f"bytes_{way} must be what TFF {what}, {size:,} with at most "
                    f"{most - counted:,} for other things; got {counted:,} as counted"
                )


def _is_placed(kind: Any, placement: Any) -> bool:
    return isinstance(kind, tff.FederatedType) and kind.placement is placement


def _at_clients(kind: Any) -> Iterator[Any]:
    parts = kind if isinstance(kind, tff.StructType) else [kind]
    return (part.member for part in parts if _is_placed(part, tff.CLIENTS))


def _tensors(kind: Any) -> Iterator[Any]:
    if isinstance(kind, tff.StructType):
        for part in kind:
            yield from _tensors(part)
    else:
        yield kind


def _zeros(kind: Any) -> Any:
    if isinstance(kind, tff.StructType):
        elements = tff.structure.to_elements(kind)
        return tff.structure.Struct((name, _zeros(part)) for name, part in elements)
    return np.zeros(kind.shape, kind.dtype)
