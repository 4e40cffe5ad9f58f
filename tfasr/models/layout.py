"""Which variable belongs to which block and module. Nothing else parses variable names."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import tensorflow as tf

from tfasr.configs.model import ModelConfig
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import Units, build_model
from tfasr.models.scopes import without_values

_NAME = re.compile(r"(?:block_(?P<block>\d+)/)?(?P<module>\w+)/(?P<role>[\w/]+):0")


@dataclass(frozen=True)
class UnitAxis:
    """Where a module's units lie in one of its variables, each as wide as all others.

    Args:
        axis: Of the variable.
        copies: How often the units stand along it, one row of them after another.
    """

    axis: int
    copies: int = 1


_FEED_FORWARD = {"up/kernel": UnitAxis(1), "up/bias": UnitAxis(0), "down/kernel": UnitAxis(0)}
_INWARDS = ("query", "key", "value", "position")
_ATTENTION = {
    **{f"{name}/kernel": UnitAxis(1) for name in _INWARDS},
    **{f"{name}/bias": UnitAxis(0) for name in _INWARDS},
    **dict.fromkeys(("content_bias", "position_bias", "output/kernel"), UnitAxis(0)),
}
_CONVOLUTION = {
    # Values, then their gates.
    "pointwise_in/kernel": UnitAxis(1, copies=2),
    "pointwise_in/bias": UnitAxis(0, copies=2),
    "depthwise/kernel": UnitAxis(1),
    "depthwise/bias": UnitAxis(0),
    "depthwise_norm/gamma": UnitAxis(0),
    "depthwise_norm/beta": UnitAxis(0),
    "pointwise_out/kernel": UnitAxis(0),
}
# By module and role. Units are a feed-forward module's inner units, attention's heads, and the
# convolution's channels or, where those are normalised in groups, the groups.
UNIT_AXES = {
    "feed_forward": _FEED_FORWARD,
    "feed_forward_1": _FEED_FORWARD,
    "feed_forward_2": _FEED_FORWARD,
    "attention": _ATTENTION,
    "convolution": _CONVOLUTION,
}
# What sums over a module's units.
SUMMING = ("down/kernel", "output/kernel", "pointwise_out/kernel")


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
    def unit_axis(self) -> UnitAxis | None:
        """Where the units of its module lie in it, or None."""
        return UNIT_AXES.get(self.module, {}).get(self.role)


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


def layout_without_weights(config: ModelConfig, units: Units | None = None) -> Layout:
    """Lays out the model of a configuration without allocating its weights.

    Args:
        config: The model.
        units: As `build_model` takes them.
    """
    with without_values():
        return Layout(build_model(config, units))


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
