"""The folder of a version: a SavedModel, a warm-up, a model card, and the hashes of all."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfasr.artifacts.commit import source_commit
from tfasr.artifacts.files import (
    atomic_path,
    read_json,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from tfasr.configs.evaluation import DecodingConfig
from tfasr.configs.export import LiteForm
from tfasr.export.card import model_card
from tfasr.export.freeze import Freezing
from tfasr.export.lite import custom_lite_operations
from tfasr.export.saved_model import ExportedModel, custom_operations
from tfasr.export.saving import save_signatures
from tfasr.export.warmup import write_warmup
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.layout import Layout, weights_hash
from tfasr.training.run import Run

ABOUT = "export.json"
CARD = "README.md"
LITE = Path("lite")
ONNX = Path("onnx")
_NONE: Mapping[Path, bytes] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """What a version is made of.

    Args:
        exported: The signatures and weights.
        about: What `export.json` says, but for what writing adds.
    """

    exported: ExportedModel
    about: dict[str, Any]

    @classmethod
    def of_run(
        cls,
        source: Run,
        model: AcousticModel,
        freezing: Freezing,
        decoding: DecodingConfig,
        facts: Mapping[str, Any],
    ) -> "Artefact":
        """Makes what is exported of a run.

        Args:
            source: The run.
            model: Its trained model, of no use afterwards.
            freezing: Which of its blocks are frozen, and as what.
            decoding: How whole utterances are decoded.
            facts: Of the model as it was trained: `facts_of` and whatever else is to be told.
        """
        about: dict[str, Any] = {
            "run": str(source.folder),
            "sample_rate": source.extractor.fbank.sample_rate,
            "longest_seconds": source.longest_seconds,
            "fbank": asdict(source.extractor.fbank),
            "vocabulary": source.tokenizer.vocabulary,
            "decoder": decoding.to_json(),
            **facts,
        }
        exported = ExportedModel(source.recogniser(model), source.extractor, freezing, decoding)
        if exported.window is not None:
            about["window"] = asdict(exported.window)
        return cls(exported=exported, about=about)

    def write(
        self,
        folder: Path,
        command: Sequence[str],
        source: Run,
        others: Mapping[Path, bytes] = _NONE,
    ) -> dict[str, Any]:
        """Writes the folder whole or not at all.

        Args:
            folder: NAME/VERSION.
            command: The command line that asked for it.
            source: The run, for the model card.
            others: What else is to be in the folder, by its place there.

        Returns:
            What `export.json` says.

        Raises:
            ValueError: A signature holds operations that stock TensorFlow lacks.
        """
        about = {"name": folder.parent.name, "version": int(folder.name), **self.about}
        about["command"] = shlex.join(command)
        about["commit"] = source_commit()
        with atomic_path(folder) as staged:
            signatures = self.exported.signatures()
            for name, signature in signatures.items():
                _require_stock(signature.graph.as_graph_def(), f"signature {name}")
            save_signatures(self.exported, staged, signatures)
            write_warmup(staged, about["name"], about["sample_rate"])
            for place, content in others.items():
                write_bytes(staged / place, content)
            write_text(staged / CARD, model_card(about, source))
            about["files"] = _files(staged)
            about["bytes"] = sum(file["bytes"] for file in about["files"].values())
            write_json(staged / ABOUT, about)
        return about


def facts_of(model: AcousticModel, freezing: Freezing) -> dict[str, Any]:
    """What `export.json` says of a trained model, before anything is frozen in it."""
    layout = Layout(model)
    frozen: dict[str, Any] = {
        "as": freezing.form,
        "blocks": list(freezing.blocks),
        "parameters": sum(e.size for e in layout if e.block in freezing.blocks),
    }
    if freezing.form == "seed":
        frozen |= {"seed": freezing.run_seed, "draw": freezing.draw}
    return {
        "model_hash": weights_hash(layout),
        "blocks": layout.num_blocks,
        "parameters": layout.parameters(),
        "frozen": frozen,
    }


def lite_file(form: LiteForm) -> Path:
    """Where in a version's folder a LiteRT model is."""
    return LITE / f"{form}.tflite"


def next_version(model: Path) -> int:
    """Returns the number behind the highest of a model's versions; 1 for a new model."""
    versions = [int(p.name) for p in model.iterdir() if p.name.isdigit()] if model.is_dir() else []
    return 1 + max(versions, default=0)


def check_version(folder: Path) -> dict[str, int]:
    """Holds a version against its own `export.json`, and its operations against TensorFlow's.

    Args:
        folder: NAME/VERSION.

    Returns:
        How many "files", "operations" of TensorFlow's and "lite" models there are.

    Raises:
        ValueError: A file is missing, changed, or not listed; or operations are not of stock
            TensorFlow, or of stock LiteRT. Names them all.
    """
    listed = read_json(folder / ABOUT)["files"]
    there = _files(folder)
    there.pop(ABOUT)
    problems = [f"{name} is missing" for name in sorted(listed.keys() - there.keys())]
    problems += [f"{name} is not listed" for name in sorted(there.keys() - listed.keys())]
    problems += [
        f"{name} is not as it was written"
        for name in sorted(listed.keys() & there.keys())
        if listed[name] != there[name]
    ]
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}. Export it anew")
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    _require_stock(graph, str(folder))
    lite = sorted((folder / LITE).glob("*.tflite"))
    for file in lite:
        custom = custom_lite_operations(file.read_bytes())
        if custom:
            raise ValueError(
                f"{file} must hold LiteRT's own operations only; got {', '.join(custom)}"
            )
    functions = [node for function in graph.library.function for node in function.node_def]
    operations = len(graph.node) + len(functions)
    return {"files": len(there), "operations": operations, "lite": len(lite)}


def _require_stock(graph: tf.compat.v1.GraphDef, where: str) -> None:
    custom = custom_operations(graph)
    if custom:
        raise ValueError(
            f"{where} must hold TensorFlow's own operations only; got {', '.join(custom)}"
        )


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
