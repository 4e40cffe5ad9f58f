from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.federated.optimizers import Clipped, Proximal, client_optimizer


def steps(optimizer, gradients, weights):
    """The weights after each step with a gradient, from 0."""
    weights = (tf.constant(weights),)
    state = optimizer.initialize((tf.TensorSpec([1]),))
    seen = []
    for gradient in gradients:
        state, weights = optimizer.next(state, weights, (tf.constant([gradient]),))
        seen.append(float(weights[0][0]))
    return seen


def test_the_proximal_term_draws_back_to_the_first_weights():
    # 2 - 0.1 * 1 = 1.9; then the slope is 1 + 3 * (1.9 - 2) = 0.7, and 1.83 is reached; then
    # that of the distance alone is 3 * (1.83 - 2) = -0.51.
    optimizer = Proximal(tff.learning.optimizers.build_sgdm(0.1), 3.0)
    assert steps(optimizer, [1.0, 1.0, 0.0], [2.0]) == pytest.approx([1.9, 1.83, 1.881])


def test_the_proximal_term_is_clipped_with_the_gradient():
    optimizer = Proximal(Clipped(tff.learning.optimizers.build_sgdm(1.0), 2.0), 10.0)
    # The second slope, 10 * (-1 - 0) = -10, is cut to -2.
    assert steps(optimizer, [1.0, 0.0], [0.0]) == pytest.approx([-1.0, 1.0])


def test_clients_are_held_back_only_where_asked_for(config):
    assert isinstance(client_optimizer(config), Clipped)
    assert isinstance(client_optimizer(replace(config, client_proximal=0.1)), Proximal)


def test_a_gradient_is_scaled_down_to_the_largest_norm():
    optimizer = Clipped(tff.learning.optimizers.build_sgdm(1.0), 5.0)
    weights = (tf.zeros([2]),)
    state = optimizer.initialize((tf.TensorSpec([2]),))
    _, (moved,) = optimizer.next(state, weights, (tf.constant([30.0, 40.0]),))
    np.testing.assert_allclose(moved, [-3.0, -4.0], rtol=1e-6)
