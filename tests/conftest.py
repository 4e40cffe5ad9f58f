from collections.abc import Callable

import numpy as np
import pytest

from tfasr.configs.seeds import counted_generator


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """Normal float32 noise of a shape, the same for the same shape and seed."""

    def make(*shape: int, seed: int = 0) -> np.ndarray:
        return counted_generator(seed, "noise", *shape).standard_normal(shape, np.float32)

    return make
