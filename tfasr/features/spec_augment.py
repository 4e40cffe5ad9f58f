"""SpecAugment: masks over mel bins and frames."""

import tensorflow as tf

from tfasr.configs.features import SpecAugmentConfig


def spec_augment(
    features: tf.Tensor, num_frames: tf.Tensor, seed: tf.Tensor, config: SpecAugmentConfig
) -> tf.Tensor:
    """Sets bands of bins and stretches of frames to zero, the mean of normalised features.

    Args:
        features: [B, T, F] float32, normalised.
        num_frames: [B] int32, real frames.
        seed: [2] int32.
        config: Number and widths of the masks.

    Returns:
        [B, T, F].

    Source: Park et al. (2019), "SpecAugment", section 2, without time warping.
    """
    batch, frames, bins = tf.unstack(tf.shape(features))
    seeds = tf.random.experimental.stateless_split(seed, 2)
    every_bin = tf.fill([batch], bins)
    width = tf.minimum(config.frequency_width, every_bin)
    kept_bins = _kept(bins, every_bin, width, config.frequency_masks, seeds[0])
    share = tf.cast(tf.cast(num_frames, tf.float32) * config.time_share, tf.int32)
    width = tf.minimum(config.time_width, share)
    kept_frames = _kept(frames, num_frames, width, config.time_masks, seeds[1])
    return tf.where(kept_frames[:, :, None] & kept_bins[:, None], features, 0.0)


def _kept(
    size: tf.Tensor, valid: tf.Tensor, max_width: tf.Tensor, masks: int, seed: tf.Tensor
) -> tf.Tensor:
    """[B, size] bool, False under a mask of 0 to `max_width` places within the `valid` first."""
    draws = tf.random.stateless_uniform([2, tf.size(valid), masks], seed)
    width = tf.floor(draws[0] * tf.cast(max_width + 1, tf.float32)[:, None])
    start = tf.floor(draws[1] * (tf.cast(valid, tf.float32)[:, None] - width + 1))
    place = tf.range(tf.cast(size, tf.float32))
    masked = (place >= start[..., None]) & (place < (start + width)[..., None])
    return ~tf.reduce_any(masked, 1)
