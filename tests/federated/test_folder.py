from dataclasses import replace

import pytest
import tensorflow as tf

from tfasr.federated.folder import CLIENTS, check_tokens, create_run, federate_config
from tfasr.federated.plans import ClientPlan
from tfasr.training.checkpoints import Progress

PLAN = ClientPlan(units=[{"feed_forward_1": 64}, {"feed_forward_1": 32}])


def begin(config):
    """Makes a run that has a checkpoint."""
    run = create_run(config, PLAN)
    run.checkpoints.save(tf.train.Checkpoint(), Progress())


def test_the_same_settings_find_the_same_run(config):
    begin(config)
    longer = replace(config, rounds=9, evaluate_every=3)
    assert create_run(longer, PLAN).folder == config.out


def test_another_setting_is_refused_by_name(config):
    begin(config)
    with pytest.raises(ValueError, match="got client_steps=3, there it is 2"):
        create_run(replace(config, client_steps=3), PLAN)


def test_another_choice_of_blocks_is_refused(config):
    begin(config)
    with pytest.raises(ValueError, match="was begun with another ranking"):
        create_run(config, replace(PLAN, units=PLAN.units[::-1]))


def test_a_run_that_came_to_nothing_takes_other_settings(config):
    create_run(config, PLAN)
    clients = config.out / CLIENTS
    clients.mkdir()
    other = replace(config, client_steps=3)
    create_run(other, PLAN)
    assert not clients.exists()
    assert federate_config(config.out).client_steps == 3


def test_a_run_of_central_training_is_not_written_into(config):
    with pytest.raises(ValueError, match="holds a run of central training"):
        create_run(replace(config, out=config.run), PLAN)


def test_data_with_another_tokenizer_is_refused(origin, data, tmp_path):
    check_tokens(origin, data)
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(ValueError, match="must be encoded with the tokenizer of"):
        check_tokens(origin, replace(data, folder=tmp_path))
