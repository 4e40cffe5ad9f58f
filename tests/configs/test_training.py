from pathlib import Path

import pytest

from tfasr.configs.training import OptimizerConfig, TrainConfig


def test_the_betas_and_epsilon_are_those_of_gulati_et_al():
    config = OptimizerConfig()
    assert (config.beta_1, config.beta_2, config.epsilon) == (0.9, 0.98, 1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peak": 0.0}, "peak must be positive .* got peak=0.0, warmup=10000"),
        ({"warmup": 0}, "warmup at least 1; got peak=0.002, warmup=0"),
    ],
)
def test_optimizer_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps and valid_every must be at least 1.* got steps=0"),
        ({"valid_every": 0}, "valid_every=0"),
        ({"checkpoint_every": -1}, "checkpoint_every at least 0; .*checkpoint_every=-1"),
        ({"keep_every": 1500}, "keep_every must be a multiple .*keep_every=1500"),
    ],
)
def test_step_counts_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(data=Path("data"), run=Path("run"), **settings)
