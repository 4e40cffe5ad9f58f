import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.plans import ClientPlan
from tfasr.federated.submodels import SubModels
from tfasr.models.building import build_model
from tfasr.models.layout import layout_without_weights

CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=2, dim=16, num_heads=2, conv_kernel=3, norm_groups=4),
    num_mels=8,
    vocabulary=5,
)
KEPT = [{"feed_forward_1": 32, "feed_forward_2": 64}, {"feed_forward_1": 64, "feed_forward_2": 16}]


@pytest.fixture(scope="module")
def submodels():
    return SubModels(CONFIG, ClientPlan(units=KEPT), seed=3, scaling="inverse")


@pytest.fixture(scope="module")
def plain():
    return SubModels(CONFIG, ClientPlan(units=KEPT), seed=3)


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
    theirs = SubModels(CONFIG, ClientPlan(units=KEPT), seed=4).indices(0)[0, "feed_forward_1"]
    assert (ours.numpy() != theirs.numpy()).any()


def test_the_slice_has_the_shapes_of_the_clients_model(submodels, noise):
    small = submodels.slice_weights(weights(submodels.full, noise), 0)
    assert [part.shape for part in small] == [e.shape for e in layout_without_weights(CONFIG, KEPT)]


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


HALVES = {"attention": 1, "convolution": 2}


@pytest.fixture(scope="module")
def half():
    """Half of the heads and half of the groups of channels, in one block of two."""
    return SubModels(CONFIG, ClientPlan(units=[{}, HALVES]), seed=3)


def test_a_slice_of_heads_is_their_columns_rows_and_biases(half, noise):
    full = weights(half.full, noise)
    small = by_name(half.full, half.slice_weights(full, 0))
    whole, (head,) = by_name(half.full, full), half.indices(0)[1, "attention"].numpy()
    own, place = slice(8 * head, 8 * head + 8), "block_1/attention"
    for name in ("query", "key", "value", "position"):
        kernel = f"{place}/{name}/kernel"
        np.testing.assert_array_equal(small[kernel], whole[kernel][:, own])
    np.testing.assert_array_equal(small[f"{place}/key/bias"], whole[f"{place}/key/bias"][own])
    output = f"{place}/output/kernel"
    np.testing.assert_array_equal(small[output], whole[output][own])
    bias = f"{place}/content_bias"
    np.testing.assert_array_equal(small[bias], whole[bias][[head]])
    assert small[f"{place}/output/bias"].shape == (16,)


def test_a_slice_of_channels_is_whole_groups_of_values_and_of_their_gates(half, noise):
    full = weights(half.full, noise)
    small = by_name(half.full, half.slice_weights(full, 0))
    whole, groups = by_name(half.full, full), half.indices(0)[1, "convolution"].numpy()
    channels = np.concatenate([np.arange(4 * group, 4 * group + 4) for group in groups])
    place = "block_1/convolution"
    both = np.concatenate([channels, 16 + channels])
    for role, rows in {"pointwise_in/kernel": both, "depthwise/kernel": channels}.items():
        np.testing.assert_array_equal(small[f"{place}/{role}"], whole[f"{place}/{role}"][:, rows])
    for role in ("depthwise_norm/gamma", "pointwise_out/kernel"):
        kept = whole[f"{place}/{role}"][channels]
        np.testing.assert_array_equal(small[f"{place}/{role}"], kept)


def assign(model, values):
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    return model


def test_the_client_s_model_is_the_full_one_without_what_the_missing_units_add(half, noise):
    full = weights(half.full, noise)
    client = assign(build_model(CONFIG, [{}, HALVES]), half.slice_weights(full, 0))
    indices = half.indices(0)
    kept = {"attention/output/kernel": (indices[1, "attention"].numpy(), 8)}
    kept["convolution/pointwise_out/kernel"] = (indices[1, "convolution"].numpy(), 4)
    for number, entry in enumerate(half.full):
        role = f"{entry.module}/{entry.role}"
        if entry.block == 1 and role in kept:
            units, width = kept[role]
            full[number] = full[number] * np.isin(np.arange(16) // width, units)[:, None]
    whole = assign(build_model(CONFIG), full)
    features, frames = noise(2, 30, 8), tf.constant([30, 17])
    np.testing.assert_allclose(client(features, frames), whole(features, frames), atol=1e-4)


def test_an_update_of_heads_and_channels_goes_where_it_was_taken_from(half, noise):
    full, update = weights(half.full, noise), weights(half.small, noise)
    scattered, masks = half.scatter_update(update, 5)
    moved = half.slice_weights([w + u for w, u in zip(full, scattered, strict=True)], 5)
    start = half.slice_weights(full, 5)
    for after, before, added in zip(moved, start, update, strict=True):
        np.testing.assert_allclose(after - before, added, atol=1e-5)
    trained = sum(int(np.sum(mask)) for mask in masks)
    assert trained == sum(entry.size for entry in half.small)


def test_a_block_that_is_not_trained_is_not_sent_back_and_does_not_move(noise):
    plan = ClientPlan(units=KEPT, frozen=(1,))
    submodels = SubModels(CONFIG, plan, seed=3)
    trained = [entry for entry in submodels.small if entry.block != 1]
    update = [np.ones(entry.shape, np.float32) for entry in trained]
    scattered, masks = submodels.scatter_update(update, 0)
    for entry, full, mask in zip(submodels.full, scattered, masks, strict=True):
        assert full.shape == mask.shape == entry.shape
        assert np.any(mask) == np.any(full) == (entry.block != 1)


def test_seeded_blocks_are_put_together_and_sliced_by_the_client(noise):
    plan = ClientPlan(units=KEPT, frozen=(1,), seeded=(1,))
    submodels = SubModels(CONFIG, plan, seed=3, scaling="inverse")
    full = weights(submodels.full, noise)
    drawn = submodels.seeding.draw(submodels.seeding.seeds())
    full = [drawn.get(place, weight) for place, weight in enumerate(full)]
    message = submodels.send(full, 4)
    assert len(message["weights"]) == len(full) - len(drawn)
    arrived = submodels.receive(message)
    for part, expected in zip(arrived, submodels.slice_weights(full, 4), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_without_seeds_nothing_but_weights_is_sent(plain, noise):
    full = weights(plain.full, noise)
    message = plain.send(full, 4)
    assert list(message) == ["weights"]
    for part, expected in zip(plain.receive(message), plain.slice_weights(full, 4), strict=True):
        np.testing.assert_array_equal(part, expected)
