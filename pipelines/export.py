"""`tfasr export`: a run to a version of a SavedModel."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.recovery import recover_centrally, recover_on_clients
from tfasr.artifacts.files import sha256_of, write_json
from tfasr.configs.export import ExportConfig, LiteForm
from tfasr.configs.serving import ServeConfig
from tfasr.data.prepared import PreparedData
from tfasr.export.artefact import (
    ABOUT,
    ONNX,
    Artefact,
    check_version,
    facts_of,
    lite_file,
    next_version,
)
from tfasr.export.figures import draw_sweep
from tfasr.export.freeze import Freezing
from tfasr.export.lite import LiteModel
from tfasr.export.measuring import Spoken, spoken
from tfasr.export.onnx import convert_onnx, require_onnx
from tfasr.export.parity import (
    Listener,
    checkpoint_listener,
    lite_listener,
    onnx_listener,
    parity,
    saved_listener,
)
from tfasr.export.sweep import Trial, smallest, sweep, ways
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.layout import Layout, weights_hash
from tfasr.serving.client import Client
from tfasr.serving.runtime import newest_version
from tfasr.serving.server import serving
from tfasr.study.drawing import write_png
from tfasr.study.ranking import Ranking
from tfasr.training.run import Run


def run(config: ExportConfig) -> None:
    """Writes the next version of a model and says what is in it, or checks one, or sweeps."""
    if config.check is not None:
        check(config.check)
    elif config.sweep:
        sweep_forms(config)
    else:
        export(config)


def check(model: Path) -> None:
    """Checks a model's newest version, or the version whose folder it is."""
    version = (model / ABOUT).is_file()
    folder = model if version else model / str(newest_version(model))
    counts = check_version(folder)
    lite = f", of its {counts['lite']} LiteRT models LiteRT's" if counts["lite"] else ""
    print(
        f"{folder}: {counts['files']} files are as they were written, all of its "
        f"{counts['operations']:,} operations are TensorFlow's own{lite}"
    )


def export(config: ExportConfig) -> dict[str, Any]:
    """Writes a version, and returns what `export.json` says."""
    if config.run is None or config.out is None:
        raise ValueError("an export needs --run and --out")
    if config.onnx:
        require_onnx()
    source = Run(config.run)
    model = source.trained_model(config.step, config.chunk)
    blocks, ranking = _frozen_blocks(config, source, weights_hash(Layout(model)))
    freezing = Freezing(
        blocks=blocks,
        form=config.freeze.as_,
        run_seed=source.config.seed,
        draw=config.freeze.draw,
    )
    about = facts_of(model, freezing)
    about["step"] = config.step or source.checkpoints.best_step()
    about["frozen"] |= ranking
    if config.recover.steps:
        _recover(config, source, model, freezing)
        about["recovered_steps"] = config.recover.steps
        about["recovered_by"] = config.recover.by
    freezing.settle(model)
    lite = _lite_models(config, source, model)
    onnx = convert_onnx(model, source.extractor) if config.onnx else b""
    listeners = _listeners(config, source, model, lite)
    if listeners and onnx:
        listeners["onnx"] = onnx_listener(onnx, source.tokenizer.pieces)
    artefact = Artefact.of_run(source, model, freezing, config.decoder, about)
    folder = config.out / str(next_version(config.out))
    about = artefact.write(folder, ["tfasr", *sys.argv[1:]], source, _others(source, lite, onnx))
    frozen = ", ".join(map(str, blocks)) or "none"
    form = f" as {freezing.form}" if blocks else ""
    print(f"{folder}: {about['bytes'] / 1e6:.2f} MB, frozen blocks {frozen}{form}")
    _compare(config, source, folder, listeners)
    print(f"serve it with: tfasr serve --model {config.out}")
    return about


def _recover(config: ExportConfig, source: Run, model: AcousticModel, freezing: Freezing) -> None:
    data = _data(config, source)
    if config.recover.by == "central":
        recover_centrally(config, source, model, freezing, data)
    else:
        ranking = Ranking.read(_ranking_path(config, source))
        recover_on_clients(config, source, model, freezing, ranking)


def _lite_models(config: ExportConfig, source: Run, model: AcousticModel) -> dict[LiteForm, bytes]:
    if not config.lite:
        return {}
    lite = LiteModel(model, source.extractor, source.tokenizer.pieces)
    return {form: lite.convert(form) for form in config.lite}


def _others(source: Run, lite: Mapping[LiteForm, bytes], onnx: bytes) -> dict[Path, bytes]:
    """What is beside the SavedModel, by its place; pieces make text of tokens."""
    others = {lite_file(form): content for form, content in lite.items()}
    if onnx:
        others[ONNX / "model.onnx"] = onnx
    pieces = json.dumps(source.tokenizer.pieces).encode()
    return others | {folder / "pieces.json": pieces for folder in {p.parent for p in others}}


def _listeners(
    config: ExportConfig, source: Run, model: AcousticModel, lite: Mapping[LiteForm, bytes]
) -> dict[str, Listener]:
    """The settled model and its LiteRT models, while it is no export yet."""
    if not config.parity:
        return {}
    pieces = source.tokenizer.pieces
    checkpoint = checkpoint_listener(source.recogniser(model), source.extractor, config.decoder)
    runners = {str(form): lite_listener(content, pieces) for form, content in lite.items()}
    return {"checkpoint": checkpoint, **runners}


def _compare(
    config: ExportConfig, source: Run, folder: Path, listeners: Mapping[str, Listener]
) -> None:
    if not listeners:
        return
    rate = source.extractor.fbank.sample_rate
    data = _data(config, source)
    utterances = spoken(data, config.split, config.domains, rate, config.parity)
    with _server_listener(folder.parent, max(each.seconds for each in utterances)) as server:
        saved = saved_listener(folder)
        found = parity(utterances, {**listeners, "saved_model": saved, "server": server})
    path = folder.parent / f"parity-{folder.name}.json"
    write_json(path, found)
    for name, rows in found["differences"].items():
        wer = found["evaluations"][name]["wer"]
        print(
            f"{name}: word error rate {100 * wer:.2f} %, {len(rows)} of {found['utterances']} "
            "texts other than the checkpoint's"
        )
    print(f"texts that differ are in {path}")


@contextmanager
def _server_listener(model: Path, longest: float) -> Iterator[Listener]:
    """Listens with a server of a model's newest version, over REST."""
    with serving(ServeConfig(model=model, port=0, max_seconds=longest + 1)) as url:
        client = Client(url=url)

        def listen(utterance: Spoken) -> str:
            return client.transcribe([utterance.wav])[0].text

        yield listen


def _data(config: ExportConfig, source: Run) -> PreparedData:
    if config.data is None:
        raise ValueError("--data must be given")
    data = PreparedData(config.data)
    source.check_data(data)
    return data


def sweep_forms(config: ExportConfig) -> Trial:
    """Measures every way to freeze, writes the best as a version, and returns it."""
    if config.run is None or config.out is None or config.data is None:
        raise ValueError("a sweep needs --run, --out and --data")
    source = Run(config.run)
    ranking, _ = _ranking(config, source, weights_hash(Layout(source.trained_model(config.step))))

    def make(freezing: Freezing) -> Artefact:
        model = source.trained_model(config.step, config.chunk)
        facts = facts_of(model, freezing)
        return Artefact.of_run(source, model, freezing, config.decoder, facts)

    ranked = ranking.most_ambient(len(ranking.blocks))
    rate = source.extractor.fbank.sample_rate
    utterances = spoken(PreparedData(config.data), config.split, config.domains, rate)
    freezings = list(ways(ranked, config.counts, source.config.seed))
    print(f"{len(freezings)} ways, {len(utterances)} utterances of {config.data}, {config.split}")
    print(_ROW.format("frozen", "MB", "load s", "real-time factor", "word error rate, %"))
    trials = sweep(source, make, freezings, utterances, lambda trial: print(_told(trial)))
    best = smallest(trials, config.max_loss)
    rows = [{**trial.to_json(), "chosen": trial is best} for trial in trials]
    write_json(config.out / "sweep.json", {"max_loss": config.max_loss, "trials": rows})
    write_png(draw_sweep(trials, config.max_loss), config.out / "sweep.png")
    print(f"smallest within {100 * config.max_loss:g} points: {best.name}")
    chosen = best.freezing
    freeze = replace(config.freeze, blocks=len(chosen.blocks), as_=chosen.form)
    export(replace(config, sweep=False, freeze=freeze))
    return best


_ROW = "{:16}{:>9}{:>9}{:>19}{:>26}"


def _told(trial: Trial) -> str:
    measured = trial.measured
    if measured is None:
        return f"{trial.name:16} {trial.refused}"
    low, high = measured.evaluation.wer_interval
    return _ROW.format(
        trial.name,
        f"{measured.bytes / 1e6:.2f}",
        f"{measured.load_seconds:.2f}",
        f"{measured.real_time_factor:.4f}",
        f"{100 * measured.evaluation.wer:.2f} ({100 * low:.2f} to {100 * high:.2f})",
    )


def _frozen_blocks(
    config: ExportConfig, source: Run, model_hash: str
) -> tuple[tuple[int, ...], dict[str, str]]:
    freeze = config.freeze
    if not freeze.asked:
        return (), {}
    ranking, about = _ranking(config, source, model_hash)
    if freeze.margin:
        return ranking.ambient(freeze.margin), about
    return ranking.most_ambient(freeze.blocks), about


def _ranking(config: ExportConfig, source: Run, model_hash: str) -> tuple[Ranking, dict[str, str]]:
    path = _ranking_path(config, source)
    ranking = Ranking.read(path)
    if ranking.model_hash != source.origin_hash:
        ranking.require_model(model_hash, path)
    return ranking, {"ranking": str(path), "ranking_sha256": sha256_of(path)}


def _ranking_path(config: ExportConfig, source: Run) -> Path:
    return config.freeze.ranking or source.folder / "study" / "ranking.json"
