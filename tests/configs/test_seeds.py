import hashlib

import numpy as np
import pytest

from tfasr.configs.seeds import counted_generator, counted_seed


def test_the_seed_of_a_draw_is_pinned():
    assert counted_seed(7, "spec_augment", 3, 41) == (987621537, 503721794)


def test_the_seed_is_the_top_of_the_sha256_of_the_arguments():
    digest = hashlib.sha256(b"7/spec_augment/3/41").hexdigest()
    assert counted_seed(7, "spec_augment", 3, 41) == (
        int(digest[:8], 16) // 2,
        int(digest[8:16], 16) // 2,
    )


@pytest.mark.parametrize(
    "other",
    [
        (8, "spec_augment", 3, 41),
        (7, "dropout", 3, 41),
        (7, "spec_augment", 4, 41),
        (7, "spec_augment", 3, 42),
        (7, "spec_augment", 341),
        (7, "spec_augment", 3),
        (7, "spec_augment", 41, 3),
    ],
)
def test_any_other_argument_gives_another_seed(other):
    assert counted_seed(*other) != counted_seed(7, "spec_augment", 3, 41)


def test_a_seed_depends_on_where_its_arguments_end():
    assert counted_seed(0, "a", "b/c") != counted_seed(0, "a/b", "c")


def test_seeds_are_31_bit_integers_that_tensorflow_takes_as_int32():
    seeds = np.array([counted_seed(0, "clients", index) for index in range(2000)])
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


def test_seeds_of_neighbouring_counters_are_uniform_and_uncorrelated():
    seeds = np.array([counted_seed(0, "clients", index) for index in range(4000)]) / 2**31
    # Five standard errors of the mean, and of a correlation, over 4000 draws.
    np.testing.assert_allclose(seeds.mean(0), 0.5, atol=5 * (1 / 12 / 4000) ** 0.5)
    columns = np.stack([seeds[:-1, 0], seeds[1:, 0], seeds[:-1, 1]])
    np.testing.assert_allclose(np.corrcoef(columns), np.eye(3), atol=5 / 4000**0.5)


def test_a_generator_repeats_its_draws():
    first = counted_generator(3, "takes", 5).integers(1000, size=20)
    np.testing.assert_array_equal(counted_generator(3, "takes", 5).integers(1000, size=20), first)


def test_a_generator_is_another_for_another_counter():
    first = counted_generator(3, "takes", 5).integers(1000, size=20)
    assert (counted_generator(3, "takes", 6).integers(1000, size=20) != first).any()
