import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.seeding import BYTES_OF_A_SEED, SeededBlocks
from tfasr.models.layout import layout_without_weights

CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=3, dim=16, num_heads=2, conv_kernel=3, norm_groups=4),
    num_mels=8,
    vocabulary=5,
)


@pytest.fixture(scope="module")
def entries():
    return layout_without_weights(CONFIG).entries


@pytest.fixture(scope="module")
def seeding(entries):
    return SeededBlocks(entries, (0, 2), seed=3)


@pytest.fixture(scope="module")
def drawn(seeding):
    return seeding.draw(seeding.seeds())


def test_all_of_the_blocks_and_nothing_else_is_drawn(entries, drawn):
    places = [place for place, entry in enumerate(entries) if entry.block in (0, 2)]
    assert list(drawn) == places
    assert all(drawn[place].shape == entries[place].shape for place in places)


def test_a_seed_gives_the_same_weights_in_a_graph_elsewhere(entries, drawn):
    other = SeededBlocks(entries, (0, 2), seed=99)
    seeds = SeededBlocks(entries, (0, 2), seed=3).seeds()
    for place, value in tf.function(other.draw)(seeds).items():
        np.testing.assert_array_equal(value, drawn[place])


def test_no_two_variables_share_their_draws(entries, drawn):
    same = [drawn[p] for p, e in enumerate(entries) if p in drawn and e.role == "up/kernel"]
    assert len(same) == 4
    assert len({float(kernel[0, 0]) for kernel in same}) == 4


def test_weights_are_drawn_as_the_first_ones_were(entries, drawn):
    named = {entries[place].name: value.numpy() for place, value in drawn.items()}
    limit = (6 / (16 + 64)) ** 0.5
    kernel = named["block_2/feed_forward_1/up/kernel"]
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_array_equal(named["block_2/norm/gamma"], 1)
    np.testing.assert_array_equal(named["block_2/feed_forward_1/up/bias"], 0)


def test_what_travels_of_a_block_is_as_large_as_counted(seeding, drawn):
    sent = (seeding.seeds(), seeding.fingerprints(drawn))
    assert sum(part.numpy().nbytes for part in sent) == 2 * BYTES_OF_A_SEED


def test_a_client_s_draw_is_checked_against_the_server_s_blocks(seeding, drawn):
    prints = seeding.fingerprints(drawn)
    for place, value in seeding.draw_checked(seeding.seeds(), prints).items():
        np.testing.assert_array_equal(value, drawn[place])
    last = max(drawn)
    moved = {**drawn, last: drawn[last] + 1e-7 * tf.one_hot(3, 16)}
    told = r"blocks drawn from a seed must be the server's.*plan\.chosen=freeze"
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        seeding.draw_checked(seeding.seeds(), seeding.fingerprints(moved))
