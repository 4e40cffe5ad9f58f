import functools
from dataclasses import replace

import pytest
import tensorflow as tf
from tensorflow_model_optimization.python.core.internal import tensor_encoding as te

from tfasr.configs.federated import PlanConfig
from tfasr.configs.model import EncoderConfig, ModelConfig, TransducerConfig
from tfasr.configs.presets import STREAMING_CONFORMER
from tfasr.federated.accounting import account
from tfasr.federated.aggregators import QUANTISED_FROM
from tfasr.federated.plans import ClientPlan, kept_units
from tfasr.federated.submodels import SubModels
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
    return account(
        layout_without_weights(CONFIG), layout_without_weights(CONFIG, KEPT), ClientPlan(units=KEPT)
    )


def test_a_dropped_unit_is_a_column_a_bias_and_a_row(sizes):
    # Two modules lose 32 of 64 units of 16 + 1 + 16 parameters.
    assert sizes.dropped == 2 * 32 * 33


def test_the_clients_model_is_as_small_as_counted(sizes):
    assert sizes.parameters_client == build_model(CONFIG, KEPT).count_params()


def test_the_share_is_of_all_parameters(sizes):
    assert sizes.dropped_share == sizes.dropped / build_model(CONFIG).count_params()


def test_bytes_are_those_of_the_serialised_tensors(sizes, noise):
    submodels = SubModels(CONFIG, ClientPlan(units=KEPT), seed=0)
    sent = submodels.slice_weights([noise(*entry.shape) for entry in submodels.full], 0)
    serialised = sum(len(tf.io.serialize_tensor(part).numpy()) for part in sent)
    # Each tensor is headed by its type and shape, in less than 32 bytes.
    assert sizes.bytes_down <= serialised <= sizes.bytes_down + 32 * len(sent)


def test_a_client_returns_its_update_and_one_weight(sizes):
    assert sizes.parameters_trained == sizes.parameters_client
    assert sizes.bytes_up == sizes.bytes_down + 4


def test_a_frozen_block_is_sent_and_not_sent_back(sizes):
    client = layout_without_weights(CONFIG, KEPT)
    frozen = account(layout_without_weights(CONFIG), client, ClientPlan(units=KEPT, frozen=(0,)))
    saved = sum(entry.size for entry in client.of_block(0))
    assert frozen.bytes_down == sizes.bytes_down
    assert frozen.bytes_up == sizes.bytes_up - 4 * saved
    assert frozen.parameters_trained == sizes.parameters_client - saved
    assert frozen.parameters_client == sizes.parameters_client


def test_a_seeded_block_is_sent_as_16_bytes(sizes, noise):
    client = layout_without_weights(CONFIG, KEPT)
    plan = ClientPlan(units=KEPT, seeded=(0,))
    seeded = account(layout_without_weights(CONFIG), client, plan)
    saved = sum(entry.size for entry in client.of_block(0))
    # And the number of the draw.
    assert seeded.bytes_down == sizes.bytes_down - 4 * saved + 16 + 4
    assert seeded.bytes_up == sizes.bytes_up
    submodels = SubModels(CONFIG, plan, seed=0)
    message = submodels.send([noise(*entry.shape) for entry in submodels.full], tf.constant(0))
    sent = sum(part.numpy().nbytes for part in tf.nest.flatten(message))
    assert sent == seeded.bytes_down


def test_quantised_updates_are_as_small_as_tff_packs_them(noise):
    client = layout_without_weights(CONFIG, KEPT)
    plan = ClientPlan(units=KEPT)
    counted = account(layout_without_weights(CONFIG), client, plan, "quantised").bytes_up
    packed = 4  # The update's weight.
    for entry in client:
        large = entry.size > QUANTISED_FROM
        stage = (
            te.encoders.uniform_quantization(8, stochastic=False)
            if large
            else te.encoders.identity()
        )
        encoder = te.encoders.as_gather_encoder(stage, tf.TensorSpec(entry.shape))
        parameters, *_ = encoder.get_params(encoder.initial_state())
        encoded, *_ = encoder.encode(noise(*entry.shape), parameters)
        packed += sum(part.numpy().nbytes for part in tf.nest.flatten(encoded))
    assert counted == packed


# "Ambient layers", table 3: the percentage printed, and what two rates and the stacking block
# among the ambient ones make of it, of the 137M parameters that the paper has and of the 129M
# of the preset, whose decoder the paper leaves open.
TABLE_3 = {
    "Crit-2 50%": (8, 7.97, 8.47),
    "Amb-2 50%": (9, 9.20, 9.77),
    "Crit-3 50%": (9, 9.20, 9.77),
    "Amb-3 50%": (10, 10.42, 11.07),
    "Crit-4 50%": (10, 10.42, 11.07),
    "Flat 20%": (11, 11.04, 11.73),
    "Amb-4 50%": (12, 11.65, 12.38),
}
PLANS = {
    **{
        f"{name}-{blocks} 50%": PlanConfig(kind=kind, blocks=blocks, rate=0.5, base_rate=0.1)
        for name, kind in {"Crit": "critical", "Amb": "ambient"}.items()
        for blocks in (2, 3, 4)
    },
    "Flat 20%": PlanConfig(kind="flat", rate=0.2),
}


@functools.cache
def block_parameters(kept):
    """Counts a block and the stacking block of the streaming Conformer, from their variables.

    All 17 blocks would take half a minute to lay out, and they are alike but for one.
    """
    encoder = replace(STREAMING_CONFORMER.encoder, num_blocks=2, stack_at=1)
    config = replace(STREAMING_CONFORMER, encoder=encoder, transducer=TransducerConfig(), ctc=True)
    units = [
        {"feed_forward_1": kept, "feed_forward_2": kept},
        {"feed_forward_1": 2 * kept, "feed_forward_2": kept},
    ]
    layout = layout_without_weights(config, units)
    return [sum(entry.size for entry in layout.of_block(block)) for block in (0, 1)]


def dropped(plan, ranking):
    full = kept_units(PlanConfig(kind="full"), STREAMING_CONFORMER)
    kept = kept_units(plan, STREAMING_CONFORMER, ranking)
    parameters = [
        sum(
            block_parameters(units["feed_forward_2"])[block == 4]
            for block, units in enumerate(model)
        )
        for model in (full, kept)
    ]
    assert parameters[0] == 112_077_312
    return parameters[0] - parameters[1]


def test_two_rates_give_the_parameters_dropped_of_table_3(rank_blocks):
    # The stacking block is the most ambient one; which the others are does not matter.
    ranking = rank_blocks(
        {block: 0.1 * place for place, block in enumerate([4, *range(4), *range(5, 17)])}
    )
    ours = {name: dropped(PLANS[name], ranking) for name in TABLE_3}
    table = {
        name: (
            printed,
            round(100 * ours[name] / 137e6, 2),
            round(100 * ours[name] / 128_950_528, 2),
        )
        for name, (printed, *_) in TABLE_3.items()
    }
    assert table == TABLE_3
    assert all(round(of_137m) == printed for printed, of_137m, _ in table.values())


def test_one_rate_does_not_give_the_parameters_dropped_of_table_3(rank_blocks):
    ranking = rank_blocks(
        {block: 0.1 * place for place, block in enumerate([4, *range(4), *range(5, 17)])}
    )
    alone = replace(PLANS["Amb-4 50%"], base_rate=0.0)
    assert round(100 * dropped(alone, ranking) / 137e6) == 8
