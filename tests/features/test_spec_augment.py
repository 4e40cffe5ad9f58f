import functools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import SPEC_AUGMENT_CONFORMER, SpecAugmentConfig
from tfasr.features.spec_augment import spec_augment, warp_time

NOTHING = SpecAugmentConfig(frequency_masks=0, time_masks=0)
WARP_ONLY = replace(NOTHING, time_warp=4)
FREQUENCY_ONLY = SpecAugmentConfig(frequency_masks=1, frequency_width=5, time_masks=0)
TIME_ONLY = SpecAugmentConfig(frequency_masks=0, time_masks=1, time_width=7)


def seeds_of(numbers, seed=3):
    """[B, 2]."""
    return tf.constant([[seed, number] for number in numbers], tf.int64)


@functools.cache
def in_graph(config):
    """`spec_augment` of all shapes: hundreds of utterances would take a second in eager mode."""
    signature = [
        tf.TensorSpec([None, None, None]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, 2], tf.int64),
    ]
    masked = functools.partial(spec_augment, config=config)
    return tf.function(masked, input_signature=signature, autograph=False)


def masked_places(config, num_frames=(20,) * 200, frames=20, bins=12, seed=3):
    """[B, T, F] bool, True where a mask lies."""
    features = tf.ones([len(num_frames), frames, bins])
    seeds = seeds_of(range(len(num_frames)), seed)
    return in_graph(config)(features, tf.constant(num_frames), seeds).numpy() == 0


def ramp(*num_frames):
    """[B, T, 2]: the frame's number from 1 and ten times that; zero on padded frames."""
    frames = np.arange(1.0, 1 + max(num_frames))[None, :, None]
    real = frames <= np.array(num_frames)[:, None, None]
    return (frames * [1, 10] * real).astype(np.float32)


def is_one_run(places):
    """Whether the True of each row are contiguous."""
    edges = np.diff(np.pad(places, [(0, 0), (1, 1)]).astype(int), axis=1)
    return (edges == 1).sum(1) <= 1


def test_values_are_kept_or_set_to_zero(noise):
    features = noise(2, 20, 12)
    masked = spec_augment(
        features, tf.constant([20, 15]), seeds_of([1, 2]), SpecAugmentConfig()
    ).numpy()
    kept = masked != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_array_equal(masked[kept], features[kept])


def test_a_frequency_mask_covers_neighbouring_bins_of_all_frames():
    places = masked_places(FREQUENCY_ONLY)
    assert (places == places[:, :1]).all()
    assert is_one_run(places[:, 0]).all()


def test_widths_of_frequency_masks_reach_from_none_to_the_widest():
    widths = masked_places(FREQUENCY_ONLY)[:, 0].sum(-1)
    assert set(widths) == {0, 1, 2, 3, 4, 5}


def test_every_width_is_as_likely():
    widths = masked_places(FREQUENCY_ONLY, num_frames=(1,) * 3000, frames=1)[:, 0].sum(-1)
    # Five standard deviations of 500 draws among 3000.
    np.testing.assert_allclose(np.bincount(widths), 500, atol=102)


def test_a_time_mask_covers_neighbouring_frames_of_all_bins():
    places = masked_places(TIME_ONLY)
    assert (places == places[..., :1]).all()
    assert is_one_run(places[:, :, 0]).all()


def test_widths_of_time_masks_reach_from_none_to_the_widest():
    assert set(masked_places(TIME_ONLY)[:, :, 0].sum(-1)) == set(range(8))


def test_time_masks_reach_both_ends_of_the_real_frames_and_no_farther():
    places = masked_places(TIME_ONLY, num_frames=(11,) * 200)[:, :, 0].any(0)
    assert places.tolist() == [True] * 11 + [False] * 9


def test_masks_of_one_batch_differ_by_utterance():
    places = masked_places(TIME_ONLY)
    assert len(np.unique(places[:, :, 0], axis=0)) > 50


@pytest.mark.parametrize(("share", "widest"), [(0.0, 0), (0.2, 4), (0.5, 7)])
def test_a_time_mask_covers_at_most_its_share_of_the_frames(share, widest):
    config = SpecAugmentConfig(frequency_masks=0, time_masks=1, time_width=7, time_share=share)
    assert masked_places(config)[:, :, 0].sum(-1).max() == widest


def test_masks_of_conformer_cover_at_most_5_percent_of_the_frames_each():
    num_frames = (40,) * 100 + (100,) * 100
    places = masked_places(SPEC_AUGMENT_CONFORMER, num_frames, frames=100, bins=80)
    masked = places.all(-1).sum(-1)
    assert 10 < masked[:100].max() <= 10 * 2
    assert 25 < masked[100:].max() <= 10 * 5


def test_a_mask_wider_than_the_features_covers_all_of_them_at_most():
    config = SpecAugmentConfig(frequency_masks=1, frequency_width=100, time_masks=0)
    assert set(masked_places(config)[:, 0].sum(-1)) == set(range(13))


def test_no_masks_leave_the_features(noise):
    features = noise(2, 20, 12)
    np.testing.assert_array_equal(
        spec_augment(features, tf.constant([20, 15]), seeds_of([1, 2]), NOTHING), features
    )


def test_an_utterance_without_frames_is_no_obstacle():
    assert not masked_places(TIME_ONLY, num_frames=(0, 20))[0].any()


def test_the_seed_alone_decides():
    config = SpecAugmentConfig()
    one, again, other = (masked_places(config, seed=i) for i in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def warped(num_frames, points, targets):
    """The first bin of warped ramps, from 1 on."""
    features = ramp(*num_frames)
    made = warp_time(
        features,
        tf.constant(num_frames),
        points=tf.constant(points, tf.float32),
        targets=tf.constant(targets, tf.float32),
    )
    np.testing.assert_allclose(made[:, :, 1], 10 * made[:, :, 0], rtol=1e-6)
    return made.numpy()[:, :, 0].tolist()


def test_a_warp_by_hand():
    # Frames 0 2 4 go to 0 1 4: frame 2 is read at 2 + 1/3 * 2.
    expected = [[1, 3, 1 + 2 + 2 / 3, 1 + 3 + 1 / 3, 5]]
    np.testing.assert_allclose(warped([5], [2], [1]), expected, rtol=1e-6)


def test_a_warp_to_the_right_is_that_to_the_left_mirrored():
    left, right = np.array(warped([5, 5], [2, 2], [1, 3]))
    np.testing.assert_allclose(right, 6 - left[::-1], rtol=1e-6)


def test_a_point_that_stays_leaves_all_frames():
    np.testing.assert_allclose(warped([5], [1.7], [1.7]), [[1, 2, 3, 4, 5]], rtol=1e-6)


def test_each_utterance_is_warped_within_its_own_frames():
    first, second = warped([7, 5], [3, 2], [4, 1])
    assert (first[0], first[-1]) == (1, 7)
    np.testing.assert_allclose(first[4], 4, rtol=1e-6)
    np.testing.assert_allclose(second, [1, 3, 3 + 2 / 3, 4 + 1 / 3, 5, 0, 0], rtol=1e-6)


def test_warps_move_frames_by_up_to_the_window_both_ways():
    features = ramp(*[21] * 200)
    seeds = seeds_of(range(200))
    made = in_graph(WARP_ONLY)(features, tf.constant([21] * 200), seeds).numpy()
    moved = made[:, :, 0] - features[:, :, 0]
    np.testing.assert_array_equal(made[:, [0, -1]], features[:, [0, -1]])
    assert (np.diff(made[:, :, 0], axis=1) > 0).all()
    assert 3.5 < moved.max() <= 4
    assert -4 <= moved.min() < -3.5


@pytest.mark.parametrize("frames", [0, 1, 2, 8])
def test_an_utterance_too_short_for_the_window_is_not_warped(frames):
    features = ramp(frames, 12)
    made = spec_augment(features, tf.constant([frames, 12]), seeds_of([1, 2]), WARP_ONLY)
    np.testing.assert_array_equal(made[0], features[0])


def test_an_utterance_is_given_the_same_whatever_its_batch(noise):
    config = SpecAugmentConfig(time_width=5, frequency_width=3, time_warp=4)
    features = noise(3, 20, 12) * (np.arange(20) < [[20], [15], [17]])[:, :, None]
    frames = np.array([20, 15, 17])
    whole = spec_augment(features, frames, seeds_of([5, 6, 7]), config)
    turned = spec_augment(features[[2, 1]][:, :18], frames[[2, 1]], seeds_of([7, 6]), config)
    np.testing.assert_array_equal(turned[0], whole[2, :18])
    np.testing.assert_array_equal(turned[1], whole[1, :18])


def test_a_dataset_masks_as_eager_mode_does(noise):
    config = SpecAugmentConfig(time_warp=3)
    features, frames = noise(3, 20, 12), tf.constant([20, 15, 7])
    seeds = seeds_of([1, 2, 3])
    dataset = tf.data.Dataset.from_tensors((features, frames)).map(
        lambda x, n: spec_augment(x, n, seeds, config)
    )
    eager = spec_augment(features, frames, seeds, config)
    np.testing.assert_allclose(next(iter(dataset)), eager, atol=1e-6)
