import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import SPEC_AUGMENT_CONFORMER, SpecAugmentConfig
from tfasr.features.spec_augment import spec_augment

SEED = tf.constant([3, 14])
FREQUENCY_ONLY = SpecAugmentConfig(frequency_masks=1, frequency_width=5, time_masks=0)
TIME_ONLY = SpecAugmentConfig(frequency_masks=0, time_masks=1, time_width=7)


def masked_places(config, num_frames=(20,) * 200, frames=20, bins=12, seed=SEED):
    """[B, T, F] bool, True where a mask lies; every utterance has draws of its own."""
    features = tf.ones([len(num_frames), frames, bins])
    return spec_augment(features, tf.constant(num_frames), seed, config).numpy() == 0


def is_one_run(places):
    """Whether the True of each row are contiguous."""
    edges = np.diff(np.pad(places, [(0, 0), (1, 1)]).astype(int), axis=1)
    return (edges == 1).sum(1) <= 1


def test_values_are_kept_or_set_to_zero(noise):
    features = noise(2, 20, 12)
    masked = spec_augment(features, tf.constant([20, 15]), SEED, SpecAugmentConfig()).numpy()
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
    widths = masked_places(FREQUENCY_ONLY, num_frames=(1,) * 6000, frames=1)[:, 0].sum(-1)
    # Five standard deviations of 1000 draws among 6000.
    np.testing.assert_allclose(np.bincount(widths), 1000, atol=145)


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
    config = SpecAugmentConfig(frequency_masks=0, time_masks=0)
    features = noise(2, 20, 12)
    np.testing.assert_array_equal(
        spec_augment(features, tf.constant([20, 15]), SEED, config), features
    )


def test_an_utterance_without_frames_is_no_obstacle():
    assert not masked_places(TIME_ONLY, num_frames=(0, 20))[0].any()


def test_the_seed_alone_decides():
    config = SpecAugmentConfig()
    one, again, other = (masked_places(config, seed=tf.constant([0, i])) for i in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_a_dataset_masks_as_eager_mode_does(noise):
    features, frames = noise(3, 20, 12), tf.constant([20, 15, 7])
    dataset = tf.data.Dataset.from_tensors((features, frames)).map(
        lambda x, n: spec_augment(x, n, SEED, SpecAugmentConfig())
    )
    eager = spec_augment(features, frames, SEED, SpecAugmentConfig())
    np.testing.assert_array_equal(next(iter(dataset)), eager)
