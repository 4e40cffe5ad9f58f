"""What a peer's model of the same shape and weights is made from."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfasr.configs.model import ModelConfig
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout


def write_twin(config: ModelConfig, folder: Path, seed: int) -> AcousticModel:
    """Makes a model with its first weights, and writes `shape.json` and `weights.npz` of it."""
    encoder = config.encoder
    shape = {
        "dim": encoder.dim,
        "blocks": encoder.num_blocks,
        "heads": encoder.num_heads,
        "kernel": encoder.conv_kernel,
        "groups": encoder.norm_groups,
        "mels": config.num_mels,
        "outputs": config.vocabulary + 1,
        "dropout": encoder.dropout,
    }
    (folder / "shape.json").write_text(json.dumps(shape))
    model = build_model(config)
    layout = Layout(model)
    initialize(layout, seed)
    weights = {place_of(entry): entry.variable.numpy() for entry in layout}
    np.savez(folder / "weights.npz", **weights)
    return model


def place_of(entry: Any) -> str:
    """Names a variable by its block, module and role, as the peers' modules are named."""
    block = "" if entry.block is None else f"blocks.{entry.block}."
    return f"{block}{entry.module}.{entry.role}".replace("/", ".")
