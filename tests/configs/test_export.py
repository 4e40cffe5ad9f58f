import pytest

from tfasr.configs.export import FreezeConfig


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
