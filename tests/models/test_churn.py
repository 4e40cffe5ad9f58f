import numpy as np
import pytest

from tfasr.configs.model import EncoderConfig, ModelConfig, StreamingConfig
from tfasr.models.building import build_model
from tfasr.models.churn import Churn, measure_churn
from tfasr.models.initialization import initial_value, initialize
from tfasr.models.layout import Layout

SEED = 3
# Deep norm has gains of its own, and a block that stacks frames a module of its own.
CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2,
        dim=8,
        num_heads=2,
        conv_kernel=3,
        conv_norm="layer",
        residual="deep_norm_release",
        stack_at=1,
        streaming=StreamingConfig(chunks=(4,)),
    ),
    num_mels=6,
    vocabulary=5,
)
MODULES = ("feed_forward_1", "attention", "convolution", "feed_forward_2", "stacking")
ATTENTION = MODULES.index("attention")


@pytest.fixture(scope="module")
def layout():
    return Layout(build_model(CONFIG))


@pytest.fixture(autouse=True)
def at_first(layout):
    initialize(layout, SEED)


def move(layout, name, distance):
    """Moves every element of a variable alike, so that its norm moves by a distance."""
    entry = next(entry for entry in layout if entry.name == name)
    entry.variable.assign_add(np.full(entry.shape, distance / entry.size**0.5))


def moved(layout, *moves):
    for name, distance in moves:
        move(layout, name, distance)
    return measure_churn(layout, SEED, step=7)


def test_first_weights_have_not_moved(layout):
    churn = moved(layout)
    assert (churn.modules, churn.step) == (MODULES, 7)
    np.testing.assert_array_equal(churn.moved, np.zeros([5, 2]))


def test_kernels_of_a_module_move_together(layout):
    churn = moved(
        layout, ("block_1/attention/query/kernel", 3.0), ("block_1/attention/position/kernel", -4.0)
    )
    expected = np.zeros([5, 2])
    expected[ATTENTION, 1] = 5
    np.testing.assert_allclose(churn.moved, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "attention/query/bias",
        "attention/content_bias",
        "attention/norm/gamma",
        "convolution/depthwise_norm/beta",
    ],
)
def test_norms_gains_and_biases_are_left_out(layout, name):
    assert not moved(layout, (f"block_0/{name}", 1.0)).moved.any()


def test_what_is_outside_the_blocks_is_left_out(layout):
    assert not moved(layout, ("head/kernel", 1.0)).moved.any()


def test_first_norms_are_those_of_the_weights_of_step_0(layout):
    values = [
        initial_value(entry, SEED).numpy().ravel()
        for entry in layout.of_block(0, "convolution")
        if entry.role in ("depthwise/kernel", "pointwise_in/kernel", "pointwise_out/kernel")
    ]
    churn = moved(layout, ("block_0/convolution/depthwise/kernel", 2.0))
    expected = np.linalg.norm(np.concatenate(values).astype(np.float64))
    np.testing.assert_allclose(churn.first[MODULES.index("convolution"), 0], expected, rtol=1e-6)


def test_a_block_without_a_module_has_norms_of_zero(layout):
    churn = moved(layout, ("block_1/stacking/kernel", 2.0))
    np.testing.assert_allclose(churn.moved[-1], [0, 2], rtol=1e-6)
    assert churn.first[-1, 0] == 0 < churn.first[-1, 1]


def test_another_seed_is_another_beginning(layout):
    other = measure_churn(layout, SEED + 1, step=7)
    assert (other.moved[other.first > 0] > 0.5).all()


CHURN = Churn(
    step=1,
    modules=("attention", "convolution", "stacking"),
    moved=np.array([[1.0, 4.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]]),
    first=np.array([[2.0, 2.0, 4.0], [1.0, 1.0, 1.0], [0.0, 6.0, 0.0]]),
)


def test_the_metric_is_relative_to_the_block_that_moved_most():
    expected = [[0.25, 1, 0.5], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(CHURN.normalised, expected)


def test_relative_churn_is_relative_to_the_first_weights():
    np.testing.assert_array_equal(CHURN.relative, [[0.5, 2, 0.5], [0, 0, 0], [0, 0.5, 0]])
