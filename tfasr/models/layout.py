"""Which variable belongs to which block and module. Nothing else parses variable names."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import tensorflow as tf

from tfasr.configs.model import ModelConfig
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model

_NAME = re.compile(r"(?:block_(?P<block>\d+)/)?(?P<module>\w+)/(?P<role>[\w/]+):0")

# The axis along which a feed-forward module's inner units lie, by role.
INNER_AXES = {"up/kernel": 1, "up/bias": 0, "down/kernel": 0}
FEED_FORWARDS = ("feed_forward_1", "feed_forward_2", "feed_forward")


@dataclass(frozen=True, eq=False)
class Entry:
    """One variable and its place.

    Args:
        variable: The variable.
        block: Index of its block; None outside the blocks.
        module: "attention" and so on in a block; "subsampling", "head" and so on outside.
        role: Its name in the module, such as "up/kernel".
        gain: Xavier gain that a kernel's first weights have.
    """

    variable: tf.Variable
    block: int | None
    module: str
    role: str
    gain: float = 1.0

    @property
    def name(self) -> str:
        """The whole path, such as "block_3/feed_forward_1/up/kernel"."""
        where = self.module if self.block is None else f"block_{self.block}/{self.module}"
        return f"{where}/{self.role}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The variable's shape."""
        return tuple(self.variable.shape)

    @property
    def size(self) -> int:
        """Parameters in it."""
        return prod(self.shape)

    @property
    def inner_axis(self) -> int | None:
        """The axis of a feed-forward module's inner units, or None."""
        return INNER_AXES.get(self.role) if self.module in FEED_FORWARDS else None


class Layout:
    """The variables of a model in their order, by block and module.

    Args:
        model: A built model.

    Raises:
        ValueError: A variable's name fits no place.
    """

    def __init__(self, model: AcousticModel) -> None:
        places = [_entry(variable) for variable in model.variables]
        gains = model.gains
        self.entries = [replace(entry, gain=gains.get(entry.name, 1.0)) for entry in places]
        self.num_blocks = 1 + max(
            (entry.block for entry in self.entries if entry.block is not None), default=-1
        )

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @property
    def trainable(self) -> list[Entry]:
        """Entries of the trainable variables."""
        return [entry for entry in self.entries if entry.variable.trainable]

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of the blocks, in the order of their variables."""
        return tuple(
            dict.fromkeys(entry.module for entry in self.entries if entry.block is not None)
        )

    def of_block(self, block: int, module: str | None = None) -> list[Entry]:
        """Entries of one block, or of one module in it."""
        return [
            entry
            for entry in self.entries
            if entry.block == block and module in (None, entry.module)
        ]

    def parameters(self) -> int:
        """Parameters of the model, the moving averages of batch normalisation included."""
        return sum(entry.size for entry in self.entries)

    def block_parameters(self) -> int:
        """Parameters of all blocks of the encoder."""
        return sum(entry.size for entry in self.entries if entry.block is not None)

    def module_parameters(self) -> dict[str, int]:
        """Parameters by module, over all blocks, and outside them."""
        return {
            module: sum(entry.size for entry in self.entries if entry.module == module)
            for module in dict.fromkeys(entry.module for entry in self.entries)
        }


def _entry(variable: tf.Variable) -> Entry:
    match = _NAME.fullmatch(variable.name)
    if match is None:
        raise ValueError(f"a variable must be named by its module; got {variable.name}")
    block = None if match["block"] is None else int(match["block"])
    return Entry(variable, block, match["module"], match["role"])


def layout_without_weights(config: ModelConfig) -> Layout:
    """Lays out the model of a configuration without allocating its weights."""
    with tf.Graph().as_default():
        return Layout(build_model(config))


def release_parameters(layout: Layout, config: ModelConfig) -> int:
    """Counts parameters as the release of the Deep Sparse Conformer has them.

    Its toolkit builds a projection of twice the width, with a bias, in every encoder block and
    two in every decoder block, and never uses them. The published sizes count them.

    Args:
        layout: Of the model.
        config: A Conformer, the same.

    Returns:
        Parameters of the model and of those projections.

    Raises:
        ValueError: It is no Conformer.
    """
    if config.family != "conformer":
        raise ValueError(f"the release has Conformers only; got family={config.family}")
    decoder = config.decoder
    projections = config.num_blocks + 2 * (decoder.num_blocks_left + decoder.num_blocks_right)
    return layout.parameters() + projections * (2 * config.dim + 1) * config.dim


def weights_hash(layout: Layout) -> str:
    """Hashes names and values of all variables, as hexadecimal SHA-256."""
    digest = hashlib.sha256()
    for entry in layout:
        digest.update(entry.name.encode() + b"\0" + entry.variable.numpy().tobytes())
    return digest.hexdigest()
