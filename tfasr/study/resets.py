"""What a study resets: blocks, modules of blocks, and sets of blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from tfasr.models.layout import Entry, Layout


@dataclass(frozen=True, order=True)
class Reset:
    """Parts of a model that are reset together.

    Args:
        blocks: Indices of their blocks, rising.
        module: Of the one block, the module that is reset; "" for whole blocks.

    Raises:
        ValueError: No block, blocks that do not rise, or a module of several blocks.
    """

    blocks: tuple[int, ...]
    module: str = ""

    def __post_init__(self) -> None:
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks must be some, each once, rising; got blocks={self.blocks}")
        if self.module and len(self.blocks) > 1:
            raise ValueError(
                f"a module is reset in one block at a time; got blocks={self.blocks}, "
                f"module={self.module}"
            )

    @property
    def name(self) -> str:
        """A name for files, such as "block-3", "block-3-attention" or "blocks-3-5"."""
        kind = "blocks" if len(self.blocks) > 1 else "block"
        return "-".join(filter(None, [kind, *map(str, self.blocks), self.module]))

    def entries(self, layout: Layout) -> list[Entry]:
        """The variables that are reset.

        Raises:
            ValueError: The model has no such part.
        """
        found = [
            entry for block in self.blocks for entry in layout.of_block(block, self.module or None)
        ]
        if {entry.block for entry in found} != set(self.blocks):
            raise ValueError(f"the model has no {self.name}; it has {layout.num_blocks} blocks")
        return found


def each_block(layout: Layout) -> list[Reset]:
    """Each block alone."""
    return [Reset((block,)) for block in range(layout.num_blocks)]


def each_module(layout: Layout) -> list[Reset]:
    """Each module of each block alone."""
    return [
        Reset((block,), module)
        for block in range(layout.num_blocks)
        for module in layout.modules
        if layout.of_block(block, module)
    ]


def each_pair(layout: Layout) -> list[Reset]:
    """Every two blocks together."""
    return [Reset(pair) for pair in combinations(range(layout.num_blocks), 2)]


def growing_sets(order: Sequence[int]) -> list[Reset]:
    """The first block of an order alone, the first two together, and so on to all."""
    return [Reset(tuple(sorted(order[:count]))) for count in range(1, len(order) + 1)]
