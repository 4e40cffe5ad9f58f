from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tfasr.configs.seeds import counted_generator


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[np.float32]]:
    """Normal float32 noise of a shape, the same for the same shape and seed."""

    def make(*shape: int, seed: int = 0) -> NDArray[np.float32]:
        return counted_generator(seed, "noise", *shape).standard_normal(shape, np.float32)

    return make
