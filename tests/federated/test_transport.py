from dataclasses import replace

import pytest

from tfasr.federated.accounting import account
from tfasr.federated.plans import ClientPlan
from tfasr.federated.process import build_process
from tfasr.federated.transport import PROTOCOL_BYTES, SMALL_BYTES, check_counted, messages
from tfasr.models.layout import layout_without_weights

pytestmark = pytest.mark.federated


def test_what_is_counted_is_what_is_serialised(process, sizes):
    down, up = messages(process)
    # The clients' learning rate goes down besides; two sums of the loss and one of clients go up.
    assert down.size == sizes.bytes_down + 4
    assert up.size == sizes.bytes_up + 12
    for message in (down, up):
        headers = message.serialised - message.size
        assert 0 < headers <= PROTOCOL_BYTES * len(message.tensors)


def test_bytes_that_tff_does_not_send_are_refused(process, sizes):
    wrong = replace(sizes, bytes_up=sizes.bytes_up + 13)
    told = rf"bytes_up must be what TFF sends, .*; got {wrong.bytes_up:,} as counted"
    with pytest.raises(ValueError, match=told):
        check_counted(process, wrong)
    short = replace(sizes, bytes_down=sizes.bytes_down - SMALL_BYTES)
    with pytest.raises(ValueError, match="bytes_down must be what TFF sends"):
        check_counted(process, short)


HALF = {"feed_forward_1": 32, "feed_forward_2": 32}


# Two more are counted where tests/federated/test_phases.py and test_rounds.py build their phases.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("aggregator", "settings"),
    [
        *((name, {}) for name in ("zeroing", "dp", "quantised", "secure")),
        *(("mean", {name: (0,)}) for name in ("seeded", "frozen")),
        ("mean", {"groups": 2}),
        ("mean", {"groups": 2, "seeded": (0,)}),
    ],
)
def test_every_way_of_sending_is_counted(origin, config, aggregator, settings):
    model = origin.model_config
    plan = ClientPlan(units=[HALF], **settings)
    config = replace(config, aggregator=aggregator)
    layouts = (layout_without_weights(model), layout_without_weights(model, plan.units))
    check_counted(build_process(model, plan, config), account(*layouts, plan, aggregator))
