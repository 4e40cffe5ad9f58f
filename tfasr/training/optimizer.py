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


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with one operation for each variable, where Keras makes some thirty.

    Source: Kingma & Ba (2015), "Adam", the order of computation at the end of section 2.
    """

    def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        step = tf.cast(self.iterations + 1, tf.float32)
        self._powers = (tf.pow(self.beta_1, step), tf.pow(self.beta_2, step))
        return super().apply_gradients(grads_and_vars, *args, **kwargs)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        index = self._index_dict[self._var_key(variable)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=self._powers[0],
            beta2_power=self._powers[1],
            lr=self.learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def make_optimizer(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Makes Adam, with decoupled weight decay on matrices where it is asked for."""
    optimizer = FusedAdam(
        learning_rate=Noam(config.peak, config.warmup),
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay or None,
        global_clipnorm=config.clip_norm,
        jit_compile=False,
    )
    if config.weight_decay:
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
