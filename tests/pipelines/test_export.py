from dataclasses import asdict, replace

import pytest

from pipelines.export import export
from tfasr.artifacts.files import read_json, sha256_of, write_json
from tfasr.configs.export import ExportConfig, FreezeConfig
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


def test_an_adapted_run_goes_by_the_ranking_of_the_run_it_came_from(
    config, ranking, tiny_run, tmp_path
):
    other = tmp_path / "ranking.json"
    replace(ranking, model_hash="a" * 64).write(other)
    config = replace(config, freeze=FreezeConfig(blocks=1, ranking=other), out=tmp_path / "x")
    origin = tiny_run.folder / "origin.json"
    write_json(origin, {"model_hash": "a" * 64})
    try:
        assert export(config)["frozen"]["blocks"] == [1]
    finally:
        origin.unlink()


def test_more_blocks_than_there_are_are_refused(config, tmp_path):
    freeze = replace(config.freeze, blocks=3)
    with pytest.raises(ValueError, match="a model of 2 blocks has no 3 of them"):
        export(replace(config, freeze=freeze, out=tmp_path / "x"))


def test_a_run_that_was_not_studied_is_told(config, tmp_path):
    freeze = FreezeConfig(blocks=1)
    with pytest.raises(ValueError, match=r"study/ranking\.json: no such file"):
        export(replace(config, freeze=freeze, out=tmp_path / "x"))


def test_blocks_under_a_margin_are_frozen_in_the_form_that_is_asked(config, tiny_run, tmp_path):
    # Block 1's interval ends at 0.11, block 0's at 0.51.
    freeze = replace(config.freeze, blocks=0, margin=0.2, as_="seed", draw=2)
    frozen = export(replace(config, freeze=freeze, out=tmp_path / "x"))["frozen"]
    seed = tiny_run.config.seed
    assert (frozen["as"], frozen["blocks"]) == ("seed", [1])
    assert (frozen["seed"], frozen["draw"]) == (seed, 2)


def test_a_margin_that_no_block_is_under_freezes_none(config, tmp_path):
    freeze = replace(config.freeze, blocks=0, margin=0.01)
    assert export(replace(config, freeze=freeze, out=tmp_path / "x"))["frozen"]["blocks"] == []
