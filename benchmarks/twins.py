"""Models with their first weights, for peers of the same shape and for exports that are timed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfasr.artifacts.files import write_json
from tfasr.configs.features import FbankConfig
from tfasr.configs.model import ModelConfig
from tfasr.evaluation.search import Recogniser
from tfasr.export.freeze import Freezing
from tfasr.export.saved_model import ExportedModel
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
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


def write_export(
    model: AcousticModel, extractor: FeatureExtractor, pieces: Sequence[str], folder: Path
) -> None:
    """Exports a model as version 1 of `folder`, of no use for training afterwards."""
    fbank = extractor.fbank
    shift = fbank.frame_shift / fbank.sample_rate
    recogniser = Recogniser(name="benchmark", model=model, pieces=pieces, frame_shift=shift)
    exported = ExportedModel(recogniser, extractor, Freezing())
    tf.saved_model.save(exported, str(folder / "1"), signatures=exported.signatures())
    write_json(folder / "1" / "export.json", {"sample_rate": fbank.sample_rate})


def plain_extractor(num_mels: int) -> FeatureExtractor:
    """Features of noise of a tenth of full scale come out at about zero with deviation one."""
    statistics = FeatureStatistics((10.0,) * num_mels, (3.0,) * num_mels)
    return FeatureExtractor(FbankConfig(num_mels=num_mels), statistics)


def place_of(entry: Any) -> str:
    """Names a variable by its block, module and role, as the peers' modules are named."""
    block = "" if entry.block is None else f"blocks.{entry.block}."
    return f"{block}{entry.module}.{entry.role}".replace("/", ".")
