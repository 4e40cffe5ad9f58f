import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.training import OptimizerConfig, TrainConfig
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.training.optimizer import make_optimizer
from tfasr.training.steps import Steps

depth = pytest.importorskip(
    "benchmarks.depth", reason="benchmarks are importable from the repository's own folder only"
)

OPTIMIZER = OptimizerConfig(peak=1e-2, warmup=2, average=0.0)


def make_model() -> AcousticModel:
    encoder = EncoderConfig(
        num_blocks=2,
        dim=8,
        num_heads=2,
        conv_kernel=3,
        norm_groups=4,
        dropout=0.0,
        residual="deep_norm",
    )
    model = build_model(ModelConfig(encoder=encoder, num_mels=8, vocabulary=5))
    initialize(Layout(model), 0)
    return model


def test_one_graph_for_all_blocks_trains_as_a_graph_for_each_does(noise, tmp_path):
    batch = {
        "features": tf.constant(noise(2, 24, 8)),
        "num_frames": tf.constant([24, 17]),
        "tokens": tf.constant([[1, 2, 3], [4, 0, 0]]),
        "num_tokens": tf.constant([3, 1]),
    }
    model = make_model()
    optimizer = make_optimizer(OPTIMIZER)
    optimizer.build(model.trainable_variables)
    config = TrainConfig(data=tmp_path, run=tmp_path, optimizer=OPTIMIZER)
    reference = Steps(model, model, optimizer, config)
    wanted = [reference.take([batch], [(0, 0)]).loss for _ in range(4)]
    steps = depth.SharedGraphSteps(make_model(), OPTIMIZER)
    np.testing.assert_allclose([steps.take(batch) for _ in range(4)], wanted, rtol=1e-4)


def test_a_loss_that_became_no_number_diverged():
    assert depth.Curve([9.0, 3.0], steps=20, seconds=0.1).diverged


def test_a_loss_that_ends_where_it_began_diverged():
    assert depth.Curve([9.0] * 20, steps=20, seconds=0.1).diverged


def test_the_final_loss_is_the_mean_of_the_last_tenth():
    curve = depth.Curve([9.0] * 18 + [3.0, 1.0], steps=20, seconds=0.1)
    assert (curve.final, curve.diverged) == (2.0, False)
