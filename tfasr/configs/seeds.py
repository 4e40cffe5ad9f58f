"""Counted seeds: every random draw names what it is for and where it stands."""

import hashlib

import numpy as np


def counted_seed(run_seed: int, purpose: str, *counters: int | str) -> tuple[int, int]:
    """Derives the seed of one draw from what it is for.

    The same arguments give the same seed on every machine and after every resume, and any
    other arguments an independent one.

    Args:
        run_seed: The seed of the run or corpus.
        purpose: What is drawn, such as "spec_augment" or "clients".
        counters: Where the draw stands: an epoch, a step, a round, a client, a block.

    Returns:
        Two non-negative 31-bit integers, as TensorFlow's stateless operations take them.
    """
    # Escaped, so that ("a", "b/c") and ("a/b", "c") differ.
    parts = [str(part).replace("%", "%25").replace("/", "%2F") for part in (purpose, *counters)]
    name = "/".join([str(run_seed), *parts])
    digest = hashlib.sha256(name.encode()).digest()
    return (
        int.from_bytes(digest[:4], "big") >> 1,
        int.from_bytes(digest[4:8], "big") >> 1,
    )


def counted_generator(run_seed: int, purpose: str, *counters: int | str) -> np.random.Generator:
    """Makes the NumPy generator that belongs to `counted_seed` of the same arguments."""
    return np.random.Generator(np.random.Philox(counted_seed(run_seed, purpose, *counters)))
