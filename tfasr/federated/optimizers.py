"""What clients and server step with."""

import collections
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


class Proximal(tff.learning.optimizers.Optimizer):
    """An optimizer of a loss to which the distance from its first weights is added.

    TFF 0.87 has a client work for it, whose term has the other sign: it drives clients away from
    the weights that they were sent.

    Args:
        inner: The optimizer.
        strength: mu.

    Source: Li et al. (2020), "Federated Optimization in Heterogeneous Networks", eq. 2.
    """

    def __init__(self, inner: tff.learning.optimizers.Optimizer, strength: float) -> None:
        self.inner = inner
        self.strength = strength

    def initialize(self, specs: Any) -> Any:
        # The first weights are not known before the first step.
        return collections.OrderedDict(
            inner=self.inner.initialize(specs),
            started=tf.constant(False),
            first=tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), specs),
        )

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        first = tf.nest.map_structure(
            lambda kept, now: tf.where(state["started"], kept, now), state["first"], weights
        )
        gradients = tf.nest.map_structure(
            lambda gradient, now, then: gradient + self.strength * (now - then),
            gradients,
            weights,
            first,
        )
        inner, weights = self.inner.next(state["inner"], weights, gradients)
        after = collections.OrderedDict(inner=inner, started=tf.constant(True), first=first)
        return after, weights

    def get_hparams(self, state: Any) -> Mapping[str, Any]:
        return dict(self.inner.get_hparams(state["inner"]))

    def set_hparams(self, state: Any, hparams: Mapping[str, Any]) -> Any:
        return {**state, "inner": self.inner.set_hparams(state["inner"], hparams)}


def client_optimizer(config: FederateConfig) -> tff.learning.optimizers.Optimizer:
    """Makes the clients' SGD; what is clipped includes FedProx's term."""
    inner = tff.learning.optimizers.build_sgdm(config.client_learning_rate)
    clipped = Clipped(inner, config.client_clip_norm)
    return Proximal(clipped, config.client_proximal) if config.client_proximal else clipped


def server_optimizer(config: FederateConfig) -> tff.learning.optimizers.Optimizer:
    """Makes the optimizer that the clients' mean update is the gradient of.

    Source: Reddi et al. (2021), "Adaptive Federated Optimization", algorithm 2.
    """
    rate = config.server_learning_rate
    match config.server:
        case "momentum":
            return tff.learning.optimizers.build_sgdm(rate, config.server_momentum)
        case "adam":
            return tff.learning.optimizers.build_adam(rate)
        case "yogi":
            return tff.learning.optimizers.build_yogi(rate)
    return tff.learning.optimizers.build_sgdm(rate)
