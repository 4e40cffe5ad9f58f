from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.study.batch_statistics import (
    BatchStatistics,
    is_statistic,
    pool_moments,
    require_statistics,
)


def make_model(config, **settings):
    encoder = replace(config.encoder, **{"conv_norm": "batch", "dropout": 0.0, **settings})
    model = build_model(replace(config, encoder=encoder))
    initialize(Layout(model), 0)
    return model


@pytest.fixture
def model(tiny_run):
    return make_model(tiny_run.model_config)


def test_moments_are_pooled_as_those_of_all_frames(noise):
    frames = [noise(3, 2), noise(5, 2, seed=1), noise(1, 2, seed=2)]
    moments = [(len(part), part.mean(0), part.var(0)) for part in frames]
    mean, variance = pool_moments(moments)
    np.testing.assert_allclose(mean, np.concatenate(frames).mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, np.concatenate(frames).var(0), rtol=1e-5)


def test_each_block_has_the_statistics_of_what_it_is_given(model, noise):
    statistics = BatchStatistics(model)
    dim = model.subsampling.dim
    masks = [tf.sequence_mask([6, 4], 6), tf.sequence_mask([3], 3)]
    encodings = [
        (tf.constant(noise(2, 6, dim)), masks[0]),
        (tf.constant(noise(1, 3, dim)), masks[1]),
    ]
    statistics.estimate(0, encodings)
    for index, block in enumerate(model.blocks):
        heard = []
        norm = block.convolution.depthwise_norm

        def listen(x, mask, norm=norm, heard=heard, **settings):
            heard.append(x.numpy()[mask.numpy()])
            return type(norm).call(norm, x, mask, **settings)

        norm.call = listen
        encodings = [
            (block(x, mask=mask, **model.visible(index, tf.shape(x)[1])), mask)
            for x, mask in encodings
        ]
        del norm.call
        frames = np.concatenate(heard)
        assert len(frames) == 13
        np.testing.assert_allclose(norm.moving_mean, frames.mean(0), atol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, frames.var(0), rtol=1e-3, atol=1e-6)


def test_blocks_below_keep_theirs(model, noise):
    below = model.blocks[0].convolution.depthwise_norm
    below.moving_mean.assign(below.moving_mean + 3)
    encoding = (tf.constant(noise(2, 6, model.subsampling.dim)), tf.ones([2, 6], tf.bool))
    BatchStatistics(model).estimate(1, [encoding])
    np.testing.assert_array_equal(below.moving_mean, np.full(below.moving_mean.shape, 3.0))


def test_moving_averages_are_told_from_weights(model):
    entries = Layout(model).entries
    roles = {entry.role.rsplit("/", 1)[-1] for entry in entries if is_statistic(entry)}
    assert roles == {"moving_mean", "moving_variance"}


def test_a_model_that_never_saw_a_batch_is_refused(model):
    with pytest.raises(ValueError, match=r"batch normalisation has no statistics, .* train it"):
        require_statistics(Layout(model).entries)


def test_a_model_that_saw_one_is_accepted(model):
    norm = model.blocks[1].convolution.depthwise_norm
    norm.moving_mean.assign(norm.moving_mean + 1)
    require_statistics(Layout(model).entries)


def test_a_model_without_batch_normalisation_needs_none(tiny_run):
    require_statistics(Layout(tiny_run.initial_model()).entries)


def test_another_norm_has_no_statistics_to_estimate(tiny_run):
    with pytest.raises(ValueError, match=r"statistics=reestimated needs .* conv_norm=batch"):
        BatchStatistics(tiny_run.initial_model())


def test_dropout_would_be_in_the_statistics(tiny_run):
    with pytest.raises(ValueError, match=r"without dropout; got dropout=0\.1"):
        BatchStatistics(make_model(tiny_run.model_config, dropout=0.1))
