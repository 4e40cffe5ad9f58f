import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.dropout import dropout, split_seed

SEED = tf.constant([5, 9])
ONES = tf.ones([100, 1003])


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_rate_is_met_to_a_256th(rate):
    dropped = np.mean(dropout(ONES, rate, SEED) == 0)
    # Five standard errors over 100,300 draws, and the rounding of the rate.
    np.testing.assert_allclose(dropped, rate, atol=5 * 0.5 / 100_300**0.5 + 1 / 512)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_mean_is_kept(rate):
    kept = 1 - round(256 * rate) / 256
    error = (1 / kept - 1) ** 0.5 / 100_300**0.5
    np.testing.assert_allclose(np.mean(dropout(ONES, rate, SEED)), 1, atol=5 * error)


def test_what_is_kept_is_scaled_by_hand():
    out = np.unique(dropout(3 * ONES, 0.25, SEED))
    np.testing.assert_allclose(out, [0, 4])


def test_elements_are_dropped_independently():
    dropped = (dropout(ONES, 0.5, SEED).numpy() == 0).astype(float)
    for one, other in ((dropped[:-1], dropped[1:]), (dropped[:, :-1], dropped[:, 1:])):
        # Five standard errors of a correlation.
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / one.size**0.5


def test_the_seed_alone_decides():
    one, again, other = (dropout(ONES, 0.5, seed).numpy() for seed in (SEED, SEED, SEED + 1))
    np.testing.assert_array_equal(one, again)
    assert 0.45 < np.mean(one != other) < 0.55


def test_no_seed_is_no_dropout():
    assert dropout(ONES, 0.5, None) is ONES


def test_rate_0_is_no_dropout():
    assert dropout(ONES, 0.0, SEED) is ONES


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5])
def test_any_number_of_elements_is_served(size):
    assert dropout(tf.ones([size]), 0.5, SEED).shape == (size,)


def test_bfloat16_is_dropped_as_float32_is():
    rough = dropout(tf.cast(ONES, tf.bfloat16), 0.25, SEED)
    assert rough.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(rough, tf.float32), dropout(ONES, 0.25, SEED), rtol=2**-8)


def test_a_graph_drops_as_eager_mode_does(noise):
    graph = tf.function(lambda x: dropout(x, 0.25, SEED))
    graph = graph.get_concrete_function(tf.TensorSpec([None, None]))
    x = tf.constant(noise(7, 11))
    np.testing.assert_array_equal(graph(x), dropout(x, 0.25, SEED))


def test_the_gradient_is_that_of_what_is_kept(noise):
    x = tf.constant(noise(10, 10))
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = dropout(x, 0.25, SEED)
    np.testing.assert_allclose(tape.gradient(out, x), (out.numpy() != 0) * 4 / 3, rtol=1e-6)


def test_what_is_dropped_is_zero_whatever_it_was():
    out = dropout(tf.fill([1000], np.inf), 0.5, SEED)
    assert set(np.unique(out)) == {0, np.inf}


def test_a_rate_close_to_1_is_met_to_a_256th():
    np.testing.assert_allclose(np.mean(dropout(ONES, 0.999, SEED) == 0), 0.999, atol=1 / 256)


def test_seeds_split_from_one_differ():
    seeds = split_seed(SEED)
    assert len({tuple(next(seeds).numpy()) for _ in range(10)}) == 10


def test_seeds_split_from_one_are_the_same_again():
    one, again = split_seed(SEED), split_seed(SEED)
    for _ in range(3):
        np.testing.assert_array_equal(next(one), next(again))


def test_no_seed_splits_into_none():
    seeds = split_seed(None)
    assert [next(seeds), next(seeds)] == [None, None]
