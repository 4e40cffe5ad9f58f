import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.training import OptimizerConfig
from tfasr.training.optimizer import Noam, make_optimizer


@pytest.mark.parametrize(
    ("steps_taken", "rate"),
    [(0, 0.5), (1, 1.0), (3, 2.0), (15, 1.0), (63, 0.5)],
)
def test_noam_by_hand(steps_taken, rate):
    # Rises by a half a step to 2 at the fourth; at step 16, half of that, at step 64 a quarter.
    np.testing.assert_allclose(Noam(peak=2.0, warmup=4)(tf.constant(steps_taken)), rate, rtol=1e-6)


def test_noam_peaks_at_the_end_of_the_warm_up():
    rates = [float(Noam(peak=0.002, warmup=10)(tf.constant(step))) for step in range(40)]
    assert np.argmax(rates) == 9
    np.testing.assert_allclose(max(rates), 0.002, rtol=1e-6)


def test_noam_comes_back_from_its_configuration():
    stored = keras.optimizers.schedules.serialize(Noam(peak=0.002, warmup=10))
    again = keras.optimizers.schedules.deserialize(stored)
    assert (again.peak, again.warmup) == (0.002, 10)


def variables():
    names = ("up/kernel", "up/bias", "norm/gamma", "norm/beta", "attention/content_bias")
    return [tf.Variable([2.0, -1.0], name=name) for name in names]


def test_the_first_steps_are_adam_s_by_hand():
    config = OptimizerConfig(peak=0.5, warmup=2, epsilon=1e-9, clip_norm=100.0)
    optimizer, weight = make_optimizer(config), tf.Variable(1.0, name="kernel")
    # The first step of Adam is the rate, 1/4, against the sign of the gradient.
    optimizer.apply_gradients([(tf.constant(3.0), weight)])
    np.testing.assert_allclose(weight, 0.75, rtol=1e-6)
    # The second, of rate 1/2: m = (0.1 * 0.9 * 3 - 0.1) / 0.19, v = (0.02 * 0.98 * 9 + 0.02)
    # over 0.0396.
    optimizer.apply_gradients([(tf.constant(-1.0), weight)])
    mean, power = (0.27 - 0.1) / 0.19, (0.1764 + 0.02) / 0.0396
    np.testing.assert_allclose(weight, 0.75 - 0.5 * mean / power**0.5, rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    # (3, 4) and (0, 12) have the norm 13, which is cut to 1.
    config = OptimizerConfig(peak=1.0, warmup=1, beta_1=0.0, beta_2=0.0, epsilon=1.0, clip_norm=1.0)
    optimizer, weights = make_optimizer(config), variables()[:2]
    gradients = [tf.constant([3.0, 4.0]), tf.constant([0.0, 12.0])]
    optimizer.apply_gradients(zip(gradients, weights, strict=True))
    # Adam without memory steps by g / (|g| + 1).
    clipped = np.array([3, 4, 0, 12]) / 13
    steps = np.array([2, -1, 2, -1]) - np.concatenate([weight.numpy() for weight in weights])
    np.testing.assert_allclose(steps, clipped / (clipped + 1), rtol=1e-5, atol=1e-7)


def test_weight_decay_takes_its_share_of_kernels_alone():
    config = OptimizerConfig(peak=0.5, warmup=1, weight_decay=0.1)
    optimizer, weights = make_optimizer(config), variables()
    zeros = [tf.zeros([2])] * len(weights)
    optimizer.apply_gradients(zip(zeros, weights, strict=True))
    np.testing.assert_allclose(weights[0], np.array([2.0, -1.0]) * (1 - 0.5 * 0.1), rtol=1e-6)
    for weight in weights[1:]:
        np.testing.assert_array_equal(weight, [2.0, -1.0], weight.name)


def test_without_weight_decay_a_zero_gradient_changes_nothing():
    optimizer, weights = make_optimizer(OptimizerConfig()), variables()
    optimizer.apply_gradients(zip([tf.zeros([2])] * len(weights), weights, strict=True))
    for weight in weights:
        np.testing.assert_array_equal(weight, [2.0, -1.0])


def test_many_steps_in_a_graph_are_those_of_keras():
    config = OptimizerConfig(peak=0.02, warmup=3, epsilon=1e-7, clip_norm=1e9)
    ours, theirs = variables(), variables()
    reference = keras.optimizers.Adam(
        Noam(0.02, 3), config.beta_1, config.beta_2, config.epsilon, jit_compile=False
    )
    for optimizer, weights in ((make_optimizer(config), ours), (reference, theirs)):
        optimizer.build(weights)

        @tf.function(autograph=False)
        def step(scale, optimizer=optimizer, weights=weights):
            gradients = [scale * (weight - 0.5) ** 3 for weight in weights]
            optimizer.apply_gradients(zip(gradients, weights, strict=True))

        for number in range(12):
            step(tf.constant([1.0, -0.5]) * (number - 4.0))
    for mine, keras_s in zip(ours, theirs, strict=True):
        assert abs(mine.numpy() - [2.0, -1.0]).min() > 0.01
        np.testing.assert_allclose(mine, keras_s, rtol=1e-5)
