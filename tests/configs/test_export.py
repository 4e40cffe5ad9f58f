from pathlib import Path

import pytest

from tfasr.configs.evaluation import DecodingConfig
from tfasr.configs.export import ExportConfig, FreezeConfig, RecoveryConfig


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"blocks": -1}, "freeze.blocks must be at least 0; got blocks=-1"),
        ({"margin": 1.0}, r"freeze.margin must be in \[0, 1\); got margin=1.0"),
        ({"blocks": 1, "margin": 0.1}, "not both; got blocks=1, margin=0.1"),
        ({"draw": 2}, "freeze.draw is for freeze.as seed; got draw=2, as=constant"),
        ({"as_": "seed", "draw": -1}, "freeze.draw must be at least 0; got draw=-1"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        FreezeConfig(**settings)


def test_blocks_are_asked_for_by_number_or_margin():
    asked = [FreezeConfig(blocks=1).asked, FreezeConfig(margin=0.02).asked, FreezeConfig().asked]
    assert asked == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"decoder": DecodingConfig(kind="attention")}, "got decoder.kind=attention"),
        ({"decoder": DecodingConfig(kind="prefix_beam", nbest=2)}, "decoder.nbest is for"),
        ({"decoder": DecodingConfig(kind="prefix_beam", tune=True)}, "decoder.tune is for"),
        ({"chunk": -1}, "chunk must be at least 0; got chunk=-1"),
        (
            {
                "freeze": FreezeConfig(blocks=1, as_="pruned"),
                "recover": RecoveryConfig(steps=1, by="federated"),
                "data": Path("d"),
            },
            "blocks can't be left out; got freeze.as=pruned",
        ),
    ],
)
def test_an_export_that_cannot_be_made_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        ExportConfig(run=Path("r"), out=Path("o"), **settings)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "--run and --out must be given"),
        (("run",), "--run and --out must be given"),
        (("check", "out"), "neither --run nor --out"),
    ],
)
def test_an_export_or_a_check_is_asked_for(given, told):
    with pytest.raises(ValueError, match=told):
        ExportConfig(**{name: Path(name) for name in given})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sweep": True}, "--sweep needs utterances, so --data must be given"),
        ({"parity": 3}, "--parity needs utterances, so --data must be given"),
        ({"parity": -1, "data": Path("d")}, "parity must be at least 0"),
        (
            {"recover": RecoveryConfig(steps=2), "data": Path("d")},
            "a recovery makes up for frozen blocks",
        ),
        (
            {"sweep": True, "data": Path("d"), "freeze": FreezeConfig(as_="seed")},
            "a sweep tries every form",
        ),
        ({"counts": (2, -1)}, "counts must be at least 0"),
        ({"max_loss": 1.0}, r"max_loss must be in \[0, 1\)"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        ExportConfig(run=Path("r"), out=Path("o"), **settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": -1}, "recover.steps must be at least 0"),
        ({"peak": 0.0}, "recover.peak must be positive"),
        ({"warmup": 0}, "recover.warmup at least 1"),
        ({"clients": 0}, "recover.clients must be at least 1"),
        ({"client_learning_rate": 0.0}, "recover.client_learning_rate positive"),
    ],
)
def test_a_recovery_that_cannot_be_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        RecoveryConfig(**settings)
