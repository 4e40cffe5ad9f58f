import json
from dataclasses import replace

import pytest

from pipelines.describe import run
from tfasr.configs.describe import DescribeConfig
from tfasr.configs.model import DecoderConfig, ModelConfig
from tfasr.configs.presets import PRESETS, TINY


def described(capsys, **settings):
    run(DescribeConfig(json=True, **settings))
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("preset", "conformer", "block"),
    [
        ("conformer_s", 8_107_776, 506_736),
        pytest.param("conformer_m", 25_423_872, 1_588_992, marks=pytest.mark.slow),
        pytest.param("conformer_l", 107_503_104, 6_323_712, marks=pytest.mark.slow),
    ],
)
def test_published_sizes_are_met(capsys, preset, conformer, block):
    # Gulati et al. (2020), table 1, and what its structure adds up to.
    about = described(capsys, model=PRESETS[preset])
    assert about["conformer"] == conformer
    assert {row["parameters"] for row in about["blocks"]} == {block}


def test_all_sums_agree(capsys):
    about = described(capsys, model=TINY)
    assert about["total"] == sum(about["modules"].values())
    assert about["total"] == sum(row["parameters"] for row in about["variables"])
    assert about["conformer"] == sum(row["parameters"] for row in about["blocks"])
    assert about["conformer"] == 6 * sum(about["blocks"][0]["modules"].values())
    outside = about["modules"]["subsampling"] + about["modules"]["head"]
    assert about["total"] - about["conformer"] == outside
    # 64 wide to 64 tokens and the blank.
    assert about["modules"]["head"] == 64 * 65 + 65


def test_a_run_is_described_by_its_own_settings(capsys, tiny_run):
    about = described(capsys, run=tiny_run.folder)
    assert about["total"] == sum(v.shape.num_elements() for v in tiny_run.initial_model().variables)


def test_the_table_groups_equal_blocks(capsys, tiny_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    run(DescribeConfig(run=tiny_run.folder))
    told = capsys.readouterr().out
    assert "0 to 1, each" in told
    total = sum(v.shape.num_elements() for v in tiny_run.initial_model().variables)
    assert f"{total:,}" in told


def test_a_model_with_decoders_is_counted_as_its_release_counts(capsys):
    # 7 projections of 2 x 64 to 64 with a bias: a block each, and two a decoder block.
    decoder = DecoderConfig(num_blocks_left=1, num_blocks_right=1, ff_units=8)
    encoder = replace(TINY.encoder, num_blocks=3)
    about = described(capsys, model=replace(TINY, encoder=encoder, decoder=decoder))
    assert about["with_unused_projections"] - about["total"] == 7 * (2 * 64 + 1) * 64
    assert about["total"] == sum(about["modules"].values())


def test_the_modules_of_another_family_are_its_own(capsys):
    about = described(capsys, model=ModelConfig(family="transformer", vocabulary=8))
    assert set(about["blocks"][0]["modules"]) == {"attention", "feed_forward"}
    assert "with_unused_projections" not in about
