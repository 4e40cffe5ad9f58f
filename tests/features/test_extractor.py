import re

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.features import FbankConfig
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.features.fbank import fbank

CONFIG = FbankConfig(sample_rate=8000, num_mels=6)
MEAN = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
DEVIATION = (1.0, 2.0, 1.0, 2.0, 1.0, 4.0)
EXTRACTOR = FeatureExtractor(CONFIG, FeatureStatistics(MEAN, DEVIATION))
SIGNATURE = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)]


def test_features_are_the_filterbank_less_its_mean_over_its_deviation(noise):
    waveform = 0.1 * noise(1, 600)
    features, frames = EXTRACTOR(waveform, tf.constant([600]))
    expected = (fbank(waveform, CONFIG) - np.array(MEAN)) / np.array(DEVIATION)
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    assert frames.numpy() == [6]


@pytest.mark.parametrize("num_samples", [200, 279, 280, 555])
def test_padding_changes_no_real_frame(noise, num_samples):
    waveforms = 0.1 * noise(2, 900)
    alone, frames = EXTRACTOR(waveforms[:1, :num_samples], tf.constant([num_samples]))
    padded, counted = EXTRACTOR(waveforms, tf.constant([num_samples, 900]))
    np.testing.assert_array_equal(counted[:1], frames)
    np.testing.assert_allclose(padded[:1, : frames[0]], alone, atol=1e-5)


def test_padded_frames_are_zero(noise):
    features, frames = EXTRACTOR(noise(2, 900), tf.constant([400, 900]))
    assert frames.numpy().tolist() == [3, 9]
    np.testing.assert_array_equal(features[0, 3:], np.zeros([6, 6]))


@pytest.mark.parametrize("num_samples", [0, 1, 199])
def test_less_than_a_window_is_no_frame(noise, num_samples):
    features, frames = EXTRACTOR(noise(1, num_samples), tf.constant([num_samples]))
    assert frames.numpy() == [0]
    np.testing.assert_array_equal(features, np.zeros([1, 1, 6]))


def test_a_graph_for_all_lengths_computes_the_same(noise):
    graph = tf.function(EXTRACTOR.__call__, input_signature=SIGNATURE, autograph=False)
    for samples in (100, 700):
        waveforms, counts = noise(2, samples), tf.constant([samples, samples // 2])
        for ours, eager in zip(graph(waveforms, counts), EXTRACTOR(waveforms, counts), strict=True):
            np.testing.assert_allclose(ours, eager, atol=1e-5)


def test_the_graph_holds_stock_operations_only():
    graph = tf.function(EXTRACTOR.__call__, input_signature=SIGNATURE, autograph=False)
    definition = graph.get_concrete_function().graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    used = {node.op for node in nodes}
    assert "BatchMatMulV2" in used
    assert used <= set(dir(tf.raw_ops))
    assert not [op for op in used if re.search("PyFunc|Custom", op)]


@pytest.mark.parametrize(
    ("mean", "deviation", "bins"),
    [(MEAN[:5], DEVIATION[:5], 5), (MEAN[:5], DEVIATION, 5), (MEAN, DEVIATION[:4], 4)],
)
def test_statistics_of_another_number_of_bins_are_named(mean, deviation, bins):
    with pytest.raises(ValueError, match=f"got .*{bins} .*num_mels=6"):
        FeatureExtractor(CONFIG, FeatureStatistics(mean, deviation))


def test_a_bin_that_never_varies_is_named():
    with pytest.raises(ValueError, match="deviation"):
        FeatureExtractor(CONFIG, FeatureStatistics(MEAN, (0.0, *DEVIATION[1:])))
