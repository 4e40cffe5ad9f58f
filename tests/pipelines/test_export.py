import contextlib
import io
import shutil
from dataclasses import asdict, replace
from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from pipelines.export import check, export, run, sweep_forms
from tfasr.artifacts.commit import source_commit
from tfasr.artifacts.files import read_json, sha256_of, write_json
from tfasr.configs.export import ExportConfig, FreezeConfig, RecoveryConfig
from tfasr.models.layout import Layout, weights_hash
from tfasr.serving.runtime import newest_version


@pytest.fixture(scope="module")
def layout(tiny_run):
    return Layout(tiny_run.trained_model())


@pytest.fixture(scope="module")
def ranking(layout, rank_blocks):
    """Block 1 is the most ambient."""
    return rank_blocks({1: 0.1, 0: 0.5}, model_hash=weights_hash(layout))


@pytest.fixture(scope="module")
def config(tiny_run, ranking, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    ranking.write(folder / "ranking.json")
    freeze = FreezeConfig(blocks=1, ranking=folder / "ranking.json")
    return ExportConfig(run=tiny_run.folder, out=folder / "models" / "tiny", freeze=freeze)


@pytest.fixture(scope="module")
def exported(config):
    return export(config)


def test_what_was_exported_is_written_down(config, exported, tiny_run, layout):
    about = read_json(config.out / "1" / "export.json")
    assert about == exported
    block = sum(entry.size for entry in layout.of_block(1))
    expected = {
        "name": "tiny",
        "version": 1,
        "step": 3,
        "model_hash": weights_hash(layout),
        "sample_rate": 8000,
        "fbank": asdict(tiny_run.extractor.fbank),
        "vocabulary": tiny_run.tokenizer.vocabulary,
        "blocks": 2,
        "parameters": layout.parameters(),
        "frozen": {
            "as": "constant",
            "blocks": [1],
            "parameters": block,
            "ranking": str(config.freeze.ranking),
            "ranking_sha256": sha256_of(config.freeze.ranking),
        },
    }
    assert {name: about[name] for name in expected} == expected


def test_every_file_is_listed_with_its_checksum(config, exported):
    folder = config.out / "1"
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(exported["files"]) == present - {"export.json"}
    for name, file in exported["files"].items():
        assert file == {
            "bytes": (folder / name).stat().st_size,
            "sha256": sha256_of(folder / name),
        }
    assert exported["bytes"] == sum(file["bytes"] for file in exported["files"].values())


def test_versions_are_numbered_upwards(config, tmp_path, capsys):
    out = tmp_path / "tiny"
    (out / "7").mkdir(parents=True)
    (out / "notes").mkdir()
    assert export(replace(config, out=out, freeze=FreezeConfig()))["version"] == 8
    assert newest_version(out) == 8
    told = capsys.readouterr().out
    assert f"{out / '8'}: " in told
    assert "frozen blocks none" in told


def test_a_ranking_of_another_model_is_refused(config, ranking, tmp_path):
    other = tmp_path / "ranking.json"
    replace(ranking, model_hash="0" * 64).write(other)
    config = replace(config, freeze=FreezeConfig(blocks=1, ranking=other), out=tmp_path / "x")
    with pytest.raises(ValueError, match=r"ranking\.json: ranks another model"):
        export(config)
    assert not config.out.exists()


@pytest.fixture(scope="module")
def adapted(config, ranking, tiny_run):
    """What is frozen as seeds, under a margin, in a run that came from the one that is ranked."""
    other = config.out.parent / "other.json"
    replace(ranking, model_hash="a" * 64).write(other)
    # Block 1's interval ends at 0.11, block 0's at 0.51.
    freeze = FreezeConfig(ranking=other, margin=0.2, as_="seed", draw=2)
    origin = tiny_run.folder / "origin.json"
    write_json(origin, {"model_hash": "a" * 64})
    try:
        return export(replace(config, freeze=freeze, out=config.out.with_name("adapted")))["frozen"]
    finally:
        origin.unlink()


def test_an_adapted_run_goes_by_the_ranking_of_the_run_it_came_from(adapted):
    assert adapted["ranking"].endswith("other.json")
    assert adapted["blocks"] == [1]


def test_more_blocks_than_there_are_are_refused(config, tmp_path):
    freeze = replace(config.freeze, blocks=3)
    with pytest.raises(ValueError, match="a model of 2 blocks has no 3 of them"):
        export(replace(config, freeze=freeze, out=tmp_path / "x"))


def test_a_run_that_was_not_studied_is_told(config, tmp_path):
    freeze = FreezeConfig(blocks=1)
    with pytest.raises(ValueError, match=r"study/ranking\.json: no such file"):
        export(replace(config, freeze=freeze, out=tmp_path / "x"))


def test_blocks_under_a_margin_are_frozen_in_the_form_that_is_asked(adapted, tiny_run):
    seed = tiny_run.config.seed
    assert (adapted["as"], adapted["blocks"]) == ("seed", [1])
    assert (adapted["seed"], adapted["draw"]) == (seed, 2)


def test_a_margin_that_no_block_is_under_freezes_none(config, tmp_path):
    freeze = replace(config.freeze, blocks=0, margin=0.01)
    assert export(replace(config, freeze=freeze, out=tmp_path / "x"))["frozen"]["blocks"] == []


def test_the_card_says_what_the_version_is(config, exported):
    card = (config.out / "1" / "README.md").read_text(encoding="utf-8")
    assert "README.md" in exported["files"]
    assert card.startswith("# tiny, version 1\n")
    assert "Speech to text at 8,000 Hz: conformer, 2 blocks" in card
    assert "Trained for 6 steps on the data prepared in `data`" in card
    assert "None: `tfasr evaluate` has not been run" in card
    assert f"Blocks 1, {exported['frozen']['parameters']:,} parameters, are constants" in card
    assert f"`{exported['model_hash'][:16]}`" in card
    assert exported["command"] in card
    assert exported["commit"] == source_commit()
    assert (source_commit() or "no known commit") in card
    assert "Apache-2.0" in card


def test_a_whole_version_passes_its_check(config, exported, capsys):
    run(ExportConfig(check=config.out))
    assert (
        f"{config.out / '1'}: {len(exported['files'])} files are as they" in capsys.readouterr().out
    )
    check(config.out / "1")


def test_what_was_changed_missing_or_added_is_named(config, exported, tmp_path):
    folder = tmp_path / "tiny" / "1"
    shutil.copytree(config.out / "1", folder)
    with (folder / "README.md").open("a") as card:
        card.write("better")
    (folder / "fingerprint.pb").unlink()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(
        ValueError,
        match=r"tiny/1: fingerprint\.pb is missing; notes\.txt is not listed; "
        r"README\.md is not as it was written\. Export it anew",
    ):
        check(tmp_path / "tiny")


def test_an_operation_that_stock_tensorflow_lacks_is_named(config, exported, tmp_path):
    folder = tmp_path / "tiny" / "1"
    shutil.copytree(config.out / "1", folder)
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].graph_def.node.add(name="own", op="EagerPyFunc")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    about = read_json(folder / "export.json")
    path = folder / "saved_model.pb"
    about["files"]["saved_model.pb"] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    write_json(folder / "export.json", about)
    with pytest.raises(ValueError, match=r"tiny/1 must hold TensorFlow's own .*; got EagerPyFunc"):
        check(folder)


@pytest.mark.slow
def test_a_sweep_writes_its_table_and_the_smallest(config, tiny_data, tmp_path, capsys):
    config = replace(
        config,
        freeze=replace(config.freeze, blocks=0),
        out=tmp_path / "swept",
        sweep=True,
        counts=(1,),
        data=tiny_data.folder,
        max_loss=0.99,
    )
    best = sweep_forms(config)
    assert best.freezing.form == "pruned"
    table = read_json(config.out / "sweep.json")
    assert (config.out / "sweep.png").stat().st_size > 0
    rows = table["trials"]
    assert [row["freezing"]["form"] for row in rows if row["freezing"]["blocks"]] == [
        "constant",
        "seed",
        "pruned",
        "int8",
    ]
    assert [row["chosen"] for row in rows] == [False, False, False, True, False]
    for row in rows:
        assert row["evaluation"]["utterances"] == 6
        assert min(row["bytes"], row["load_seconds"], row["real_time_factor"]) > 0
    about = read_json(config.out / "1" / "export.json")
    assert (about["frozen"]["as"], about["frozen"]["blocks"]) == ("pruned", [1])
    assert "smallest within 99 points: 1 as pruned" in capsys.readouterr().out


@pytest.fixture(scope="module")
def compared(config, tiny_data):
    """Folder of a model in all forms that can be made here, what it is, and what was said of it."""
    out, onnx = config.out.with_name("compared"), find_spec("tf2onnx") is not None
    with contextlib.redirect_stdout(io.StringIO()) as told:
        about = export(
            replace(config, out=out, lite=("float",), onnx=onnx, parity=4, data=tiny_data.folder)
        )
    return out, about, told.getvalue()


def test_all_that_was_exported_and_the_server_write_the_same(compared, capsys):
    out, about, told = compared
    assert "server: word error rate" in told
    assert {"lite/float.tflite", "lite/pieces.json"} <= about["files"].keys()
    check(out)
    assert "are TensorFlow's own, of its 1 LiteRT models LiteRT's\n" in capsys.readouterr().out
    found = read_json(out / "parity-1.json")
    assert found["utterances"] == 4
    differences = {name: rows for name, rows in found["differences"].items() if name != "onnx"}
    assert differences == {"float": [], "saved_model": [], "server": []}
    wers = {name: values["wer"] for name, values in found["evaluations"].items()}
    assert len(set(wers.values())) == 1


def test_an_onnx_model_writes_the_same(compared):
    pytest.importorskip("tf2onnx", reason="ONNX is optional")
    out, about, _ = compared
    assert {"onnx/model.onnx", "onnx/pieces.json"} <= about["files"].keys()
    assert read_json(out / "parity-1.json")["differences"]["onnx"] == []


def test_the_other_blocks_are_trained_beside_the_frozen_ones(
    config, tiny_data, tiny_run, layout, tmp_path
):
    freeze = replace(config.freeze, as_="seed")
    recover = RecoveryConfig(steps=2, peak=1e-2, warmup=1)
    changed = replace(
        config, out=tmp_path / "recovered", freeze=freeze, recover=recover, data=tiny_data.folder
    )
    about = export(changed)
    assert about["recovered_steps"] == 2
    assert "for 2 more steps" in (changed.out / "1" / "README.md").read_text()
    loaded = tf.saved_model.load(str(changed.out / "1"))
    trained = {v.name: v.numpy() for v in loaded.weights}
    before = {e.variable.name: e.variable.numpy() for e in layout}
    assert all("block_1/" not in name for name in trained)
    moved = [name for name, value in trained.items() if not np.array_equal(value, before[name])]
    assert len(moved) > 0.9 * len(trained)


@pytest.mark.federated
def test_clients_train_the_other_blocks_beside_the_frozen_ones(config, tiny_data, layout, tmp_path):
    freeze = replace(config.freeze, as_="int8")
    recover = RecoveryConfig(steps=1, by="federated", clients=1, client_learning_rate=0.5)
    out = tmp_path / "recovered"
    about = export(replace(config, out=out, freeze=freeze, recover=recover, data=tiny_data.folder))
    assert (about["recovered_steps"], about["recovered_by"]) == (1, "federated")
    assert "for 1 more federated rounds" in (out / "1" / "README.md").read_text()
    trained = {v.name: v.numpy() for v in tf.saved_model.load(str(out / "1")).weights}
    before = {e.variable.name: e.variable.numpy() for e in layout}
    assert all("block_1/" not in name for name in trained)
    moved = [name for name, value in trained.items() if not np.array_equal(value, before[name])]
    assert len(moved) > 0.5 * len(trained)
