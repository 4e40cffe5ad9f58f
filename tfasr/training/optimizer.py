"""Adam with the Noam schedule."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.training import OptimizerConfig


@keras.saving.register_keras_serializable(package="tfasr")
class Noam(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly to a peak, then falls as 1 / sqrt(step).

    Args:
        peak: Learning rate at the end of the warm-up.
        warmup: Steps of rising learning rate.

    Call:
        step: Scalar, steps taken so far.
        returns: Scalar float32, the rate of the step after them.

    Source: Vaswani et al. (2017), section 5.3, scaled to its peak.
    """

    def __init__(self, peak: float, warmup: int) -> None:
        super().__init__()
        self.peak = peak
        self.warmup = warmup

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        now = tf.cast(step, tf.float32) + 1
        return self.peak * self.warmup**0.5 * tf.minimum(now**-0.5, now * self.warmup**-1.5)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup": self.warmup}


def make_optimizer(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Makes Keras's Adam, with decoupled weight decay on matrices where it is asked for."""
    settings = {
        "learning_rate": Noam(config.peak, config.warmup),
        "beta_1": config.beta_1,
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "global_clipnorm": config.clip_norm,
        "jit_compile": False,
    }
    if not config.weight_decay:
        return keras.optimizers.Adam(**settings)
    optimizer = keras.optimizers.AdamW(weight_decay=config.weight_decay, **settings)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def update_average(
    averages: Sequence[tf.Variable],
    variables: Sequence[tf.Variable],
    step: tf.Tensor,
    decay: float,
) -> None:
    """Moves averages towards the variables; faster at first, so that early weights fade.

    Args:
        averages: What is moved.
        variables: What is averaged, in the same order.
        step: Scalar integer, steps taken so far.
        decay: Share that an average keeps in the long run, in [0, 1).

    Source: Polyak & Juditsky (1992), with the decay min(decay, (1 + step) / (10 + step)).
    """
    now = tf.cast(step, tf.float32)
    kept = tf.minimum(decay, (1 + now) / (10 + now))
    for average, variable in zip(averages, variables, strict=True):
        average.assign_add((1 - kept) * (variable - average))
