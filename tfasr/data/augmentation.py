"""Augmentation of waveforms and features, `Dataset -> Dataset`.

Every draw of an utterance comes from a seed made of the caller's seed, what is drawn, and the
utterance's own number: its order, its batch and its neighbours change nothing.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf

from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.data.banks import Banks, RecordingBank
from tfasr.features import augment
from tfasr.features.spec_augment import spec_augment

Seed: TypeAlias = tuple[int, int] | tf.Tensor
Range: TypeAlias = tuple[float, float]


class Purpose(enum.IntEnum):
    """What is drawn; its number keeps its draws apart from all others of an utterance."""

    SCALARS = 0
    SPEED = 1
    REVERBERATION = 2
    NOISE = 3
    CHANNEL = 4
    BAND = 5
    CODEC = 6
    GAIN = 7
    DITHER = 8
    MASKS = 9


@dataclass(frozen=True)
class _Draw:
    """What one utterance is given for one purpose.

    Args:
        seed: [2] int64, for what takes many draws.
        chance: Scalar float32 in [0, 1), which decides whether there is any change.
        amounts: [2] float32 in [0, 1).
    """

    seed: tf.Tensor
    chance: tf.Tensor
    amounts: tf.Tensor


# From a waveform [T] to a waveform.
Change: TypeAlias = Callable[[tf.Tensor, _Draw], tf.Tensor]


@dataclass(frozen=True)
class _Step:
    purpose: Purpose
    change: Change


def augment_examples(
    examples: tf.data.Dataset,
    *,
    config: AugmentConfig,
    seed: Seed,
    banks: Banks,
    sample_rate: int,
) -> tf.data.Dataset:
    """Changes speed, room, noise, channel, band, codec, gain and dither, in this order.

    Args:
        examples: Dicts with "waveform" [T] float32 in [-1, 1], "num_samples" scalar int32,
            "number" scalar int64, and whatever else, which passes through.
        config: What is changed, and how much.
        seed: Pair of integers, such as the counted seed of a run and an epoch.
        banks: What `Banks.load` made of `config`.
        sample_rate: Of the waveforms, in hertz.

    Returns:
        The same, with other waveforms and numbers of samples; not clipped. The functions
        below, one after the other, give the same.
    """
    steps = []
    if set(config.speeds) != {1.0}:
        steps.append(_speed_step(config.speeds))
    if config.reverb_share:
        room = (config.reverb_seconds, banks.rooms, sample_rate)
        steps.append(_reverberation_step(config.reverb_share, *room))
    if config.noise_share:
        steps.append(_noise_step(config.noise_share, config.noise_snr_db, banks.noise))
    if config.tilt_db:
        steps.append(_channel_step(config.tilt_db))
    if config.band_share:
        edges = (config.band_low_hz, config.band_high_hz)
        steps.append(_band_step(config.band_share, edges, sample_rate))
    if config.codec_share:
        steps.append(_codec_step(config.codec_share))
    if config.gain_db != (0.0, 0.0):
        steps.append(_gain_step(config.gain_db))
    if config.dither:
        steps.append(_dither_step(config.dither))
    return _changed(examples, steps, seed)


def perturb_speed(
    examples: tf.data.Dataset, *, speeds: Sequence[float], seed: Seed
) -> tf.data.Dataset:
    """Plays each waveform at one of some speeds of at most two decimals."""
    return _changed(examples, [_speed_step(speeds)], seed)


def drawn_speed_samples(
    number: tf.Tensor, num_samples: tf.Tensor, *, speeds: Sequence[float], seed: Seed
) -> tf.Tensor:
    """How long `perturb_speed` and `augment_examples` make an utterance, without its waveform.

    Args:
        number: Scalar int64, of the utterance.
        num_samples: Scalar int32, before.
        speeds: As there.
        seed: As there.

    Returns:
        Scalar of the type of `num_samples`.
    """
    draw = _drawer(_keys(seed), number)(Purpose.SPEED)
    lengths = [augment.stretched(num_samples, speed) for speed in speeds]
    return tf.stack(lengths)[_chosen_speed(draw, speeds)]


def reverberate_examples(
    examples: tf.data.Dataset,
    *,
    share: float,
    seconds: Range,
    bank: RecordingBank | None,
    sample_rate: int,
    seed: Seed,
) -> tf.data.Dataset:
    """Puts a share of the waveforms into rooms, drawn from a bank or made.

    Args:
        examples: As for `augment_examples`.
        share: In [0, 1].
        seconds: Shortest and longest time in which a made room falls by 60 dB.
        bank: Impulse responses; None makes them.
        sample_rate: Of the waveforms, in hertz.
        seed: Pair of integers.
    """
    return _changed(examples, [_reverberation_step(share, seconds, bank, sample_rate)], seed)


def add_noises(
    examples: tf.data.Dataset,
    *,
    share: float,
    snr_db: Range,
    bank: RecordingBank | None,
    seed: Seed,
) -> tf.data.Dataset:
    """Adds noise to a share of the waveforms, drawn from a bank or made.

    Args:
        examples: As for `augment_examples`.
        share: In [0, 1].
        snr_db: Lowest and highest signal-to-noise ratio, in dB.
        bank: Recordings of noise; None makes it.
        seed: Pair of integers.
    """
    return _changed(examples, [_noise_step(share, snr_db, bank)], seed)


def change_channels(examples: tf.data.Dataset, *, tilt_db: float, seed: Seed) -> tf.data.Dataset:
    """Filters each waveform by a random smooth response of at most so many dB."""
    return _changed(examples, [_channel_step(tilt_db)], seed)


def limit_bands(
    examples: tf.data.Dataset,
    *,
    share: float,
    low_hz: Range,
    high_hz: Range,
    sample_rate: int,
    seed: Seed,
) -> tf.data.Dataset:
    """Takes low and high frequencies from a share of the waveforms.

    Args:
        examples: As for `augment_examples`.
        share: In [0, 1].
        low_hz: Lowest and highest lower edge, in hertz.
        high_hz: Lowest and highest upper edge, in hertz.
        sample_rate: Of the waveforms, in hertz.
        seed: Pair of integers.
    """
    return _changed(examples, [_band_step(share, (low_hz, high_hz), sample_rate)], seed)


def compand_examples(examples: tf.data.Dataset, *, share: float, seed: Seed) -> tf.data.Dataset:
    """Sends a share of the waveforms through 8-bit mu-law."""
    return _changed(examples, [_codec_step(share)], seed)


def change_gains(examples: tf.data.Dataset, *, gain_db: Range, seed: Seed) -> tf.data.Dataset:
    """Amplifies each waveform by a gain between two, in dB."""
    return _changed(examples, [_gain_step(gain_db)], seed)


def dither_examples(examples: tf.data.Dataset, *, deviation: float, seed: Seed) -> tf.data.Dataset:
    """Adds white noise of a standard deviation on the 16-bit scale."""
    return _changed(examples, [_dither_step(deviation)], seed)


def mask_features(
    batches: tf.data.Dataset, *, config: SpecAugmentConfig, seed: Seed
) -> tf.data.Dataset:
    """Applies SpecAugment.

    Args:
        batches: Dicts with "features" [B, T, F], "num_frames" [B], "number" [B] int64, and
            whatever else, which passes through.
        config: How far and how much.
        seed: Pair of integers.

    Returns:
        The same, with other features.
    """
    if not (config.frequency_masks or config.time_masks or config.time_warp):
        return batches

    key = _keys(seed)[Purpose.MASKS]

    def apply(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        number = tf.cast(batch["number"], tf.int64)
        seeds = tf.stack([tf.fill(tf.shape(number), key), number], 1)  # [B, 2]
        features = spec_augment(batch["features"], batch["num_frames"], seeds, config)
        return {**batch, "features": features}

    return batches.map(apply, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _changed(examples: tf.data.Dataset, steps: Sequence[_Step], seed: Seed) -> tf.data.Dataset:
    if not steps:
        return examples
    keys = _keys(seed)

    def apply(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        waveform = example["waveform"]
        draw = _drawer(keys, example["number"])
        for step in steps:
            waveform = step.change(waveform, draw(step.purpose))
        return {**example, "waveform": waveform, "num_samples": tf.size(waveform)}

    return examples.map(apply, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _keys(seed: Seed) -> tf.Tensor:
    """[purposes] int64. A purpose's key and an utterance's number make a seed."""
    return tf.random.stateless_uniform(
        [len(Purpose)], tf.cast(seed, tf.int64), None, None, tf.int64, alg="philox"
    )


def _drawer(keys: tf.Tensor, number: tf.Tensor) -> Callable[[Purpose], _Draw]:
    """Makes an utterance's draws for each purpose."""
    number = tf.cast(number, tf.int64)
    # All scalars at once: on short utterances, single draws would take longer than the filters.
    scalars = tf.random.stateless_uniform(
        [len(Purpose), 3], tf.stack([keys[Purpose.SCALARS], number]), alg="philox"
    )

    def draw(purpose: Purpose) -> _Draw:
        seed = tf.stack([keys[purpose], number])
        return _Draw(seed, scalars[purpose, 0], scalars[purpose, 1:])

    return draw


def _between(bounds: Range, share: tf.Tensor) -> tf.Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _chosen_speed(draw: _Draw, speeds: Sequence[float]) -> tf.Tensor:
    return tf.cast(draw.amounts[0] * len(speeds), tf.int32)


def _sometimes(share: float, change: Change) -> Change:
    def apply(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        return tf.cond(draw.chance < share, lambda: change(waveform, draw), lambda: waveform)

    return apply


def _speed_step(speeds: Sequence[float]) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        return augment.change_speed_to_one_of(waveform, speeds, _chosen_speed(draw, speeds))

    return _Step(Purpose.SPEED, change)


def _reverberation_step(
    share: float, seconds: Range, bank: RecordingBank | None, sample_rate: int
) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        if bank is None:
            decay = _between(seconds, draw.amounts[0])
            room = augment.made_room(draw.seed, decay, sample_rate)
        else:
            room = bank.pick(draw.seed)
        return augment.reverberate(waveform, room)

    return _Step(Purpose.REVERBERATION, _sometimes(share, change))


def _noise_step(share: float, snr_db: Range, bank: RecordingBank | None) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        samples = tf.size(waveform)
        if bank is None:
            noise = augment.coloured_noise(samples, draw.seed)
        else:
            noise = bank.draw(draw.seed, samples)
        return augment.add_noise(waveform, noise, _between(snr_db, draw.amounts[0]))

    return _Step(Purpose.NOISE, _sometimes(share, change))


def _channel_step(tilt_db: float) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        return augment.change_channel(waveform, draw.seed, tilt_db)

    return _Step(Purpose.CHANNEL, change)


def _band_step(share: float, edges: tuple[Range, Range], sample_rate: int) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        low, high = (_between(edges[edge], draw.amounts[edge]) for edge in (0, 1))
        return augment.limit_band(waveform, low, high, sample_rate)

    return _Step(Purpose.BAND, _sometimes(share, change))


def _codec_step(share: float) -> _Step:
    return _Step(Purpose.CODEC, _sometimes(share, lambda waveform, _: augment.compand(waveform)))


def _gain_step(gain_db: Range) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        return augment.change_gain(waveform, _between(gain_db, draw.amounts[0]))

    return _Step(Purpose.GAIN, change)


def _dither_step(deviation: float) -> _Step:
    def change(waveform: tf.Tensor, draw: _Draw) -> tf.Tensor:
        return augment.add_dither(waveform, draw.seed, deviation)

    return _Step(Purpose.DITHER, change)
