"""What clients and server step with."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfasr.configs.federated import FederateConfig


class Clipped(tff.learning.optimizers.Optimizer):
    """An optimizer whose gradient is scaled down to a largest global norm.

    One client with an odd recording would otherwise carry the mean of a whole round.

    Args:
        inner: The optimizer.
        clip_norm: The largest norm.
    """

    def __init__(self, inner: tff.learning.optimizers.Optimizer, clip_norm: float) -> None:
        self.inner = inner
        self.clip_norm = clip_norm

    def initialize(self, specs: Any) -> Any:
        return self.inner.initialize(specs)

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        flat, _ = tf.clip_by_global_norm(tf.nest.flatten(gradients), self.clip_norm)
        return self.inner.next(state, weights, tf.nest.pack_sequence_as(gradients, flat))  # type: ignore[no-any-return]

    def get_hparams(self, state: Any) -> Mapping[str, Any]:
        return self.inner.get_hparams(state)  # type: ignore[no-any-return]

    def set_hparams(self, state: Any, hparams: Mapping[str, Any]) -> Any:
        return self.inner.set_hparams(state, hparams)


def client_optimizer(config: FederateConfig) -> tff.learning.optimizers.Optimizer:
    """Makes the clients' SGD."""
    inner = tff.learning.optimizers.build_sgdm(config.client_learning_rate)
    return Clipped(inner, config.client_clip_norm)


def server_optimizer(config: FederateConfig) -> tff.learning.optimizers.Optimizer:
    """Makes the optimizer that the clients' mean update is the gradient of."""
    if config.server == "adam":
        return tff.learning.optimizers.build_adam(config.server_learning_rate)
    return tff.learning.optimizers.build_sgdm(config.server_learning_rate)
