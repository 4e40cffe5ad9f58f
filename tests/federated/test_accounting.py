import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.accounting import account
from tfasr.federated.submodels import SubModels, client_layout
from tfasr.models.building import build_model
from tfasr.models.layout import layout_without_weights

CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=2, dim=16, num_heads=2, conv_kernel=3, norm_groups=4),
    num_mels=8,
    vocabulary=5,
)
KEPT = [{"feed_forward_1": 32, "feed_forward_2": 32}, {"feed_forward_1": 64, "feed_forward_2": 64}]


@pytest.fixture(scope="module")
def sizes():
    return account(layout_without_weights(CONFIG), client_layout(CONFIG, KEPT))


def test_a_dropped_unit_is_a_column_a_bias_and_a_row(sizes):
    # Two modules lose 32 of 64 units of 16 + 1 + 16 parameters.
    assert sizes.dropped == 2 * 32 * 33


def test_the_clients_model_is_as_small_as_counted(sizes):
    assert sizes.parameters_client == build_model(CONFIG, KEPT).count_params()


def test_the_share_is_of_all_parameters(sizes):
    assert sizes.dropped_share == sizes.dropped / build_model(CONFIG).count_params()


def test_bytes_are_those_of_the_serialised_tensors(sizes, noise):
    submodels = SubModels(CONFIG, KEPT, seed=0)
    sent = submodels.slice_weights([noise(*entry.shape) for entry in submodels.full], 0)
    serialised = sum(len(tf.io.serialize_tensor(part).numpy()) for part in sent)
    # Each tensor is headed by its type and shape, in less than 32 bytes.
    assert sizes.bytes_down <= serialised <= sizes.bytes_down + 32 * len(sent)


def test_a_client_returns_its_update_and_one_weight(sizes):
    assert sizes.bytes_up == sizes.bytes_down + 4
