"""`tfasr export`: a run to a version of a SavedModel."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfasr.artifacts.files import atomic_path, sha256_of, write_json
from tfasr.configs.export import ExportConfig
from tfasr.export.freeze import Freezing
from tfasr.export.saved_model import Recogniser, Signatures, custom_operations
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.ranking import Ranking
from tfasr.training.run import Run


def run(config: ExportConfig) -> None:
    """Writes the next version of a model and says what is in it."""
    export(config)


def export(config: ExportConfig) -> dict[str, Any]:
    """Does what `run` does, and returns what `export.json` says."""
    source = Run(config.run)
    step = config.step or source.checkpoints.best_step()
    model = source.trained_model(config.step)
    layout = Layout(model)
    model_hash = weights_hash(layout)
    frozen, ranking = _frozen_blocks(config, source, model_hash)
    freezing = Freezing(
        blocks=frozen,
        form=config.freeze.as_,
        run_seed=source.config.seed,
        draw=config.freeze.draw,
    )
    frozen_parameters = sum(e.size for block in frozen for e in layout.of_block(block))
    by_seed = freezing.form == "seed"
    version = 1 + max(_versions(config.out), default=0)
    about: dict[str, Any] = {
        "name": config.out.name,
        "version": version,
        "run": str(config.run),
        "step": step,
        "model_hash": model_hash,
        "sample_rate": source.extractor.fbank.sample_rate,
        "fbank": asdict(source.extractor.fbank),
        "vocabulary": source.tokenizer.vocabulary,
        "blocks": layout.num_blocks,
        "parameters": layout.parameters(),
        "frozen": {
            "as": freezing.form,
            "blocks": list(frozen),
            "parameters": frozen_parameters,
            **({"seed": freezing.run_seed, "draw": freezing.draw} if by_seed else {}),
            **ranking,
        },
    }
    recogniser = Recogniser(model, source.extractor, source.tokenizer.pieces, freezing)
    folder = config.out / str(version)
    with atomic_path(folder) as staged:
        signatures = recogniser.signatures()
        _require_stock_operations(signatures)
        tf.saved_model.save(recogniser, str(staged), signatures=signatures)
        about["files"] = _files(staged)
        about["bytes"] = sum(file["bytes"] for file in about["files"].values())
        write_json(staged / "export.json", about)
    blocks = ", ".join(map(str, frozen)) or "none"
    form = f" as {freezing.form}" if frozen else ""
    print(f"{folder}: {about['bytes'] / 1e6:.2f} MB, frozen blocks {blocks}{form}")
    print(f"serve it with: tfasr serve --model {config.out}")
    return about


def _frozen_blocks(
    config: ExportConfig, source: Run, model_hash: str
) -> tuple[tuple[int, ...], dict[str, str]]:
    if not config.freeze.asked:
        return (), {}
    path = config.freeze.ranking or config.run / "study" / "ranking.json"
    ranking = Ranking.read(path)
    if ranking.model_hash != source.origin_hash:
        ranking.require_model(model_hash, path)
    if config.freeze.margin:
        blocks = ranking.ambient(config.freeze.margin)
    else:
        blocks = ranking.most_ambient(config.freeze.blocks)
    return blocks, {"ranking": str(path), "ranking_sha256": sha256_of(path)}


def _require_stock_operations(signatures: Signatures) -> None:
    for name, signature in signatures.items():
        custom = custom_operations(signature.graph.as_graph_def())
        if custom:
            raise ValueError(
                f"signature {name} must hold TensorFlow's own operations only; "
                f"got {', '.join(custom)}"
            )


def _versions(model: Path) -> list[int]:
    if not model.is_dir():
        return []
    return [int(path.name) for path in model.iterdir() if path.name.isdigit()]


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
