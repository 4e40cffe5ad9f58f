import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.submodels import SubModels, client_layout

CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=2, dim=16, num_heads=2, conv_kernel=3, norm_groups=4),
    num_mels=8,
    vocabulary=5,
)
KEPT = [(32, 64), (64, 16)]


@pytest.fixture(scope="module")
def submodels():
    return SubModels(CONFIG, KEPT, seed=3, scaling="inverse")


@pytest.fixture(scope="module")
def plain():
    return SubModels(CONFIG, KEPT, seed=3)


def weights(entries, noise):
    return [noise(*entry.shape, seed=number) for number, entry in enumerate(entries)]


def by_name(entries, values):
    return {entry.name: np.asarray(value) for entry, value in zip(entries, values, strict=True)}


def test_only_modules_that_lose_units_are_sliced(submodels):
    assert list(submodels.indices(0)) == [(0, "feed_forward_1"), (1, "feed_forward_2")]


def test_indices_are_distinct_and_rising(submodels):
    drawn = submodels.indices(0)[0, "feed_forward_1"].numpy()
    assert drawn.shape == (32,)
    assert (np.diff(drawn) > 0).all()
    assert 0 <= drawn[0] < drawn[-1] < 64


def test_the_same_round_draws_the_same_units_in_a_graph(submodels):
    drawn = tf.function(submodels.indices, autograph=False)(tf.constant(7))
    for module, indices in submodels.indices(7).items():
        np.testing.assert_array_equal(drawn[module], indices)


def test_every_unit_is_drawn_equally_often(submodels):
    rounds = tf.range(400)
    draw = tf.function(
        lambda: tf.map_fn(lambda r: submodels.indices(r)[1, "feed_forward_2"], rounds)
    )
    drawn = draw()
    counts = np.bincount(drawn.numpy().ravel(), minlength=64)
    # 400 draws of 16 of 64: mean 100, deviation 8.7; five deviations are not met by chance.
    assert counts.min() > 56
    assert counts.max() < 144


def test_another_seed_draws_other_units(submodels):
    ours = submodels.indices(0)[0, "feed_forward_1"]
    theirs = SubModels(CONFIG, KEPT, seed=4).indices(0)[0, "feed_forward_1"]
    assert (ours.numpy() != theirs.numpy()).any()


def test_the_slice_has_the_shapes_of_the_clients_model(submodels, noise):
    small = submodels.slice_weights(weights(submodels.full, noise), 0)
    assert [part.shape for part in small] == [e.shape for e in client_layout(CONFIG, KEPT)]


def test_the_slice_is_the_chosen_columns_and_rows(plain, noise):
    full = weights(plain.full, noise)
    small = by_name(plain.full, plain.slice_weights(full, 0))
    whole, units = by_name(plain.full, full), plain.indices(0)[0, "feed_forward_1"].numpy()
    module = "block_0/feed_forward_1"
    np.testing.assert_array_equal(
        small[f"{module}/up/kernel"], whole[f"{module}/up/kernel"][:, units]
    )
    np.testing.assert_array_equal(small[f"{module}/up/bias"], whole[f"{module}/up/bias"][units])
    np.testing.assert_array_equal(
        small[f"{module}/down/kernel"], whole[f"{module}/down/kernel"][units]
    )
    np.testing.assert_array_equal(small["head/kernel"], whole["head/kernel"])


def test_inverse_scaling_multiplies_the_projection_by_the_units_over_those_kept(
    submodels, plain, noise
):
    full = weights(submodels.full, noise)
    scaled, unscaled = (by_name(s.full, s.slice_weights(full, 0)) for s in (submodels, plain))
    ratios = {name: scaled[name] / unscaled[name] for name in unscaled}
    np.testing.assert_allclose(ratios.pop("block_0/feed_forward_1/down/kernel"), 2, rtol=1e-6)
    np.testing.assert_allclose(ratios.pop("block_1/feed_forward_2/down/kernel"), 4, rtol=1e-6)
    for ratio in ratios.values():
        np.testing.assert_array_equal(ratio, 1)


@pytest.mark.parametrize("scaling", ["inverse", "none"])
def test_a_scattered_update_is_what_the_client_added_to_its_slice(submodels, plain, noise, scaling):
    submodels = {"inverse": submodels, "none": plain}[scaling]
    full, update = weights(submodels.full, noise), weights(submodels.small, noise)
    scattered, _ = submodels.scatter_update(update, 5)
    moved = submodels.slice_weights([w + u for w, u in zip(full, scattered, strict=True)], 5)
    start = submodels.slice_weights(full, 5)
    for after, before, added in zip(moved, start, update, strict=True):
        np.testing.assert_allclose(after - before, added, atol=1e-5)


def test_what_was_not_sent_gets_no_update(submodels, noise):
    scattered, masks = submodels.scatter_update(weights(submodels.small, noise), 5)
    scattered, masks = by_name(submodels.full, scattered), by_name(submodels.full, masks)
    kernel = "block_0/feed_forward_1/up/kernel"
    units = submodels.indices(5)[0, "feed_forward_1"].numpy()
    assert masks[kernel][:, units].all()
    assert masks[kernel].sum() == 16 * 32
    assert masks["head/kernel"].all()
    for name, mask in masks.items():
        assert not scattered[name][~mask].any()
