import pytest

from tfasr.configs.clients import ClientsConfig


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"count": 0}, "count must be at least 1; got count=0"),
        ({"size": 0}, "size must be at least 1; got size=0"),
        ({"concentration": 0.0}, r"concentration must be in \[1e-6, 1e6\]; got concentration=0\.0"),
        ({"concentration": float("nan")}, r"concentration must be in .*; got concentration=nan"),
        ({"dropout_share": 1.0}, r"dropout_share must be in \[0, 1\); got dropout_share=1\.0"),
        ({"straggler_share": 1.1}, r"straggler_share must be in \[0, 1\]; got straggler_share=1"),
    ],
)
def test_settings_of_clients_have_bounds(setting, told):
    with pytest.raises(ValueError, match=told):
        ClientsConfig(**setting)
