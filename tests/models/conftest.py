from collections.abc import Callable
from typing import Any

import keras
import pytest


@pytest.fixture(scope="session")
def with_noise_weights(noise: Callable[..., Any]) -> Callable[..., keras.layers.Layer]:
    """Builds a layer and gives every weight noise: biases and gains of zero and one hide much."""

    def shake(layer: keras.layers.Layer, input_shape: tuple[int | None, ...]) -> keras.layers.Layer:
        if not layer.built:
            layer.build(input_shape)
        for number, weight in enumerate(layer.weights):
            value = 0.4 * noise(*weight.shape, seed=number)
            weight.assign(1 + abs(value) if "variance" in weight.name else value)
        return layer

    return shake
