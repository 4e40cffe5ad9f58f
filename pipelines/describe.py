"""`tfasr describe`: blocks and modules with shapes and parameters."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from tfasr.configs.describe import DescribeConfig
from tfasr.configs.model import ModelConfig
from tfasr.models.layout import Layout, layout_without_weights, release_parameters
from tfasr.training.run import Run


def run(config: DescribeConfig) -> None:
    """Prints the table of a model, or its JSON."""
    model = Run(config.run).model_config if config.run else config.model
    layout = layout_without_weights(model)
    if config.json:
        print(json.dumps({**_summary(layout), **_release(layout, model)}))
        return
    Console().print(_table(layout))
    for parameters in _release(layout, model).values():
        print(
            f"With the projections that the Deep Sparse Conformer's release builds in every block "
            f"and never uses: {parameters:,}"
        )


def _release(layout: Layout, config: ModelConfig) -> dict[str, int]:
    """What the authors' release counts, for a model with one of its residuals or its decoder."""
    if config.family != "conformer" or not config.decoder.num_blocks_right:
        return {}
    return {"with_unused_projections": release_parameters(layout, config)}


def _summary(layout: Layout) -> dict[str, Any]:
    return {
        "total": layout.parameters(),
        "conformer": layout.block_parameters(),
        "modules": layout.module_parameters(),
        "blocks": [
            {
                "block": block,
                "parameters": sum(entry.size for entry in layout.of_block(block)),
                "modules": {
                    module: sum(entry.size for entry in layout.of_block(block, module))
                    for module in layout.modules
                },
            }
            for block in range(layout.num_blocks)
        ],
        "variables": [
            {"name": entry.name, "shape": list(entry.shape), "parameters": entry.size}
            for entry in layout
        ],
    }


def _table(layout: Layout) -> Table:
    """One row a module; blocks of the same shapes share their rows."""
    table = Table("block", "module", "variables", "parameters", show_footer=False)
    table.columns[-1].justify = "right"
    table.columns[2].overflow = "fold"
    for label, entries in _groups(layout):
        for module in dict.fromkeys(entry.module for entry in entries):
            own = [entry for entry in entries if entry.module == module]
            shapes = ", ".join(f"{e.role} {'x'.join(map(str, e.shape))}" for e in own)
            table.add_row(label, module, shapes, f"{sum(e.size for e in own):,}")
            label = ""
        table.add_section()
    table.add_row("all blocks", "", "", f"{layout.block_parameters():,}")
    table.add_row("total", "", "", f"{layout.parameters():,}")
    return table


def _groups(layout: Layout) -> list[tuple[str, list[Any]]]:
    groups: list[tuple[str, list[Any]]] = []
    outside = [entry for entry in layout if entry.block is None]
    groups.append(("", [entry for entry in outside if entry.module == outside[0].module]))
    start = 0
    for block in range(1, layout.num_blocks + 1):
        if block < layout.num_blocks and _shapes(layout, block) == _shapes(layout, start):
            continue
        last = block - 1
        label = f"{start}" if start == last else f"{start} to {last}, each"
        groups.append((label, layout.of_block(start)))
        start = block
    groups.append(("", [entry for entry in outside if entry.module != outside[0].module]))
    return groups


def _shapes(layout: Layout, block: int) -> list[tuple[int, ...]]:
    return [entry.shape for entry in layout.of_block(block)]
