from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.configs.federated import FederateConfig
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.aggregators import epsilon, make_aggregator
from tfasr.federated.optimizers import server_optimizer
from tfasr.federated.plans import ClientPlan
from tfasr.federated.process import build_finalizer
from tfasr.federated.submodels import SubModels
from tfasr.federated.workers import worker_context

pytestmark = pytest.mark.federated

CONFIG = FederateConfig(
    run=Path("run"), data=Path("data"), out=Path("out"), clients_per_round=2, rounds=1
)
KINDS = ("mean", "clipping", "zeroing", "dp", "quantised", "secure")


@pytest.fixture(scope="module", autouse=True)
def worker(tmp_path_factory):
    with worker_context(tmp_path_factory.mktemp("worker") / "worker.log") as process:
        yield process


def aggregated(kind, updates, weights, **settings):
    """What the updates, one vector of each client, come to in the first round."""
    config = replace(CONFIG, aggregator=kind, clients_per_round=len(updates), **settings)
    vector = tff.to_type([tff.TensorType(np.float32, [len(updates[0])])])
    aggregator = make_aggregator(config).create(vector, tff.TensorType(np.float32))
    values = [[np.asarray(update, np.float32)] for update in updates]
    return aggregator.next(aggregator.initialize(), values, weights).result[0]


def test_the_mean_is_weighted():
    np.testing.assert_allclose(aggregated("mean", [[1, 0], [3, 4]], [1.0, 3.0]), [2.5, 3.0])


def test_clipped_updates_have_the_norm_that_is_estimated():
    # TFF's first estimate is 1: the second is cut from a norm of 5 to 1.
    result = aggregated("clipping", [[0.6, 0], [3, 4]], [1.0, 1.0])
    np.testing.assert_allclose(result, [0.6, 0.4], rtol=1e-5)


def test_a_wildly_large_update_counts_as_zeros():
    result = aggregated("zeroing", [[1, 2], [3, 4], [1e6, 0]], [1.0, 1.0, 2.0])
    np.testing.assert_allclose(result, [1, 1.5], rtol=1e-5)


def test_private_noise_is_as_large_as_asked_for():
    # TFF's first clipping norm is 0.1; of the noise that was asked for, a part goes to the count
    # of clipped updates: 1 / 1.1547^2 + 1 / (2 * 1)^2 = 1 / 1^2.
    result = aggregated("dp", [np.zeros(20_000)] * 2, [1.0, 5.0], dp_noise=1.0)
    assert np.std(result) == pytest.approx(0.1 * 1.1547 / 2, rel=0.03)
    assert abs(np.mean(result)) < 5 * 0.0577 / 20_000**0.5


def test_private_clients_count_alike_and_are_clipped():
    result = aggregated("dp", [[3, 4], [0.06, 0]], [1.0, 50.0], dp_noise=1e-6)
    np.testing.assert_allclose(result, [(0.06 + 0.06) / 2, 0.08 / 2], atol=1e-5)


def test_quantised_updates_are_off_by_half_a_step_of_256_at_most():
    updates = [np.linspace(-1, 1, 500), np.linspace(2, -2, 500)]
    expected = (updates[0] + updates[1]) / 2
    result = aggregated("quantised", updates, [1.0, 1.0])
    # Half of a step of each, halved by the mean; and float32's rounding of the bounds.
    assert 0 < np.abs(result - expected).max() <= (2 / 255 + 4 / 255) / 4 + 1e-6


def test_a_small_variable_is_not_quantised():
    result = aggregated("quantised", [[0.123, 0.456]], [1.0])
    np.testing.assert_allclose(result, [0.123, 0.456], rtol=1e-6)


def test_a_secure_sum_is_the_mean_but_for_its_rounding():
    # Its integers span 100 in steps of 100 / 2^32, and a weight is whole.
    result = aggregated("secure", [[1, -2], [3, 4]], [1.0, 3.0])
    np.testing.assert_allclose(result, [2.5, 2.5], atol=1e-5)


@pytest.fixture(scope="module")
def half_a_block():
    """Sub-models of one block with half its units, their updates' type, and what takes them."""
    encoder = EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2)
    model = ModelConfig(encoder=encoder, num_mels=4, vocabulary=3)
    plan = ClientPlan(units=[{"feed_forward_1": 8, "attention": 1}])
    submodels = SubModels(model, plan, seed=0)
    shapes = [entry.shape for entry in submodels.small]
    update_type = tff.to_type([tff.TensorType(np.float32, shape) for shape in shapes])
    finalizer = build_finalizer(
        submodels, server_optimizer(CONFIG), update_type, submodels.scatter_update
    )
    return submodels, update_type, finalizer


@pytest.mark.parametrize("kind", KINDS)
def test_each_moves_what_was_trained_of_a_sub_model_and_nothing_else(kind, half_a_block, noise):
    submodels, update_type, finalizer = half_a_block
    config = replace(CONFIG, aggregator=kind)
    aggregator = make_aggregator(config).create(update_type, tff.TensorType(np.float32))
    updates = [
        [0.01 * noise(*entry.shape, seed=client) for entry in submodels.small] for client in (0, 1)
    ]
    output = aggregator.next(aggregator.initialize(), updates, [1.0, 1.0])
    weights = [np.zeros(entry.shape, np.float32) for entry in submodels.full]
    moved = finalizer.next(finalizer.initialize(), weights, output.result).result
    _, masks = submodels.scatter_update(updates[0], 0)
    assert sum(int(tf.reduce_sum(tf.cast(~mask, tf.int32))) for mask in masks) > 0
    for after, mask in zip(moved, masks, strict=True):
        assert not after[~mask.numpy()].any()
        assert after[mask.numpy()].any()


def test_epsilon_of_one_gaussian_round_is_between_the_exact_and_the_simple_bound():
    # Noise of twice the norm and clients that are replaced: deviation by sensitivity is 1. Balle
    # and Wang's exact epsilon at 1e-5 is 4.377; Renyi's order alone gives 1/2 + sqrt(2 ln 1e5).
    found = epsilon(replace(CONFIG, dp_noise=2.0), population=2)
    assert 4.377 < found < 0.5 + (2 * np.log(1e5)) ** 0.5


def test_epsilon_grows_with_rounds_and_falls_with_the_population():
    one = epsilon(CONFIG, population=100)
    assert epsilon(replace(CONFIG, rounds=20), population=100) > one
    assert epsilon(CONFIG, population=1000) < one


def test_fewer_clients_than_the_noise_was_made_for_are_refused():
    with pytest.raises(ValueError, match="got clients_per_round=2 of 1 clients"):
        epsilon(CONFIG, population=1)
