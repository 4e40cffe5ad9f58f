"""SpecAugment: warped time, and masks over mel bins and frames."""

import tensorflow as tf

from tfasr.configs.features import SpecAugmentConfig


def spec_augment(
    features: tf.Tensor, num_frames: tf.Tensor, seeds: tf.Tensor, config: SpecAugmentConfig
) -> tf.Tensor:
    """Warps time, and sets bands of bins and stretches of frames to zero, the features' mean.

    What an utterance is given depends on its own seed and length alone, not on its batch.

    Args:
        features: [B, T, F] float32, normalised, zero on padded frames.
        num_frames: [B] int32, real frames.
        seeds: [B, 2] integers, one seed an utterance.
        config: How far and how much.

    Returns:
        [B, T, F].

    Source: Park et al. (2019), "SpecAugment", section 2. Its image warp is bent in time only
        here, and every frequency alike.
    """
    counts = [2, 2 * config.frequency_masks, 2 * config.time_masks]
    warping, banding, stretching = tf.split(_draws(seeds, sum(counts)), counts, 1)
    if config.time_warp:
        points, targets = _moved_points(num_frames, warping, config.time_warp)
        features = warp_time(features, num_frames, points=points, targets=targets)
    _, frames, bins = tf.unstack(tf.shape(features))
    every_bin = tf.fill(tf.shape(num_frames), bins)
    width = tf.minimum(config.frequency_width, every_bin)
    kept_bins = _kept(bins, every_bin, width, banding)
    share = tf.cast(tf.cast(num_frames, tf.float32) * config.time_share, tf.int32)
    width = tf.minimum(config.time_width, share)
    kept_frames = _kept(frames, num_frames, width, stretching)
    return tf.where(kept_frames[:, :, None] & kept_bins[:, None], features, 0.0)


def warp_time(
    features: tf.Tensor, num_frames: tf.Tensor, *, points: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:
    """Moves a point of each utterance in time; the first and the last frame stay.

    Frames between the three are read from between the old ones, along straight lines.

    Args:
        features: [B, T, F] float32.
        num_frames: [B] int32, real frames.
        points: [B] float32, the frames that are moved, after the first and before the last.
        targets: [B] float32, where to; likewise.

    Returns:
        [B, T, F], padded frames as they are.
    """
    last = tf.cast(num_frames - 1, tf.float32)[:, None]
    point, target = points[:, None], targets[:, None]
    frame = tf.range(tf.cast(tf.shape(features)[1], tf.float32))[None]  # [1, T]
    before = frame * tf.math.divide_no_nan(point, target)
    after = last - (last - frame) * tf.math.divide_no_nan(last - point, last - target)
    source = tf.where(frame < target, before, after)  # [B, T]
    source = tf.where(frame < last, tf.clip_by_value(source, 0.0, tf.maximum(last, 0.0)), frame)
    left = tf.floor(source)
    share = (source - left)[:, :, None]
    left = tf.cast(left, tf.int32)
    right = tf.minimum(left + 1, tf.shape(features)[1] - 1)
    old = tf.gather(features, left, batch_dims=1), tf.gather(features, right, batch_dims=1)
    return old[0] * (1 - share) + old[1] * share


def _draws(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """[B, count] in [0, 1), each row from its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform([count], seed, alg="philox"),
        seeds,
        fn_output_signature=tf.TensorSpec([count], tf.float32),
    )


def _moved_points(
    num_frames: tf.Tensor, draws: tf.Tensor, farthest: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Points at least `farthest` frames from both ends and where they go, [B] each."""
    last = tf.cast(num_frames - 1, tf.float32)
    room = last - 2 * farthest
    # Where no point is far enough from the ends, the middle stays where it is.
    point = tf.where(room > 0, farthest + draws[:, 0] * room, last / 2)
    moved = tf.where(room > 0, (2 * draws[:, 1] - 1) * farthest, 0.0)
    return point, point + moved


def _kept(size: tf.Tensor, valid: tf.Tensor, max_width: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """[B, size] bool, False under a mask of 0 to `max_width` places within the `valid` first."""
    widths, starts = tf.split(draws, 2, 1)  # [B, masks]
    width = tf.floor(widths * tf.cast(max_width + 1, tf.float32)[:, None])
    start = tf.floor(starts * (tf.cast(valid, tf.float32)[:, None] - width + 1))
    place = tf.range(tf.cast(size, tf.float32))
    masked = (place >= start[..., None]) & (place < (start + width)[..., None])
    return ~tf.reduce_any(masked, 1)
