import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.federated.groups import accumulator, averaged, grouped
from tfasr.federated.plans import ClientPlan
from tfasr.federated.process import build_process
from tfasr.federated.rounds import Server
from tfasr.federated.submodels import SubModels
from tfasr.federated.workers import worker_context
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout

pytestmark = pytest.mark.federated

MODEL = ModelConfig(
    encoder=EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2),
    num_mels=4,
    vocabulary=3,
)
PLAN = ClientPlan(units=[{"feed_forward_1": 8}], groups=2)
BIAS = "block_0/feed_forward_1/up/bias"


@pytest.fixture(scope="module", autouse=True)
def worker(tmp_path_factory):
    with worker_context(tmp_path_factory.mktemp("worker") / "worker.log") as process:
        yield process


@pytest.fixture(scope="module")
def submodels():
    return SubModels(MODEL, PLAN, seed=0)


def place(submodels, name):
    return [entry.name for entry in submodels.full].index(name)


@pytest.fixture(scope="module")
def sums(submodels):
    """Of clients with draws 6 and 7, whose updates are all 1 and all 2, with weights 1 and 3."""
    shapes = [entry.shape for entry in submodels.small]
    update_type = tff.to_type([tff.TensorType(np.float32, shape) for shape in shapes])
    weigh, _ = accumulator(submodels, update_type)
    result_type = tff.learning.templates.ClientResult(update_type, np.float32)

    @tff.federated_computation(
        tff.FederatedType(result_type, tff.CLIENTS), tff.FederatedType(np.int32, tff.CLIENTS)
    )
    def add_up(results, draws):
        return weigh(results, draws)

    results = [
        tff.learning.templates.ClientResult(
            [np.full(shape, value, np.float32) for shape in shapes], weight
        )
        for value, weight in ((1, 1.0), (2, 3.0))
    ]
    return add_up(results, [6, 7])


def of_each(submodels, draws=(6, 7)):
    """Which inner units of the first feed-forward module each draw has."""
    drawn = [submodels.indices(draw)[0, "feed_forward_1"].numpy() for draw in draws]
    return [np.isin(np.arange(32), units) for units in drawn]


def test_counted_means_are_over_the_clients_that_trained_a_coordinate(submodels, sums):
    means, trained = averaged(sums, "counted")
    one, other = of_each(submodels)
    assert (one & other).any()
    assert (one & ~other).any()
    # Both, the first alone, the second alone, neither: (1 * 1 + 3 * 2) / 4, 1, 2, 0.
    expected = np.where(one & other, 1.75, np.where(one, 1, np.where(other, 2, 0)))
    np.testing.assert_allclose(means[place(submodels, BIAS)], expected, rtol=1e-6)
    np.testing.assert_array_equal(trained[place(submodels, BIAS)], one | other)


def test_zero_filled_means_are_over_all_clients(submodels, sums):
    means, trained = averaged(sums, "zero_filled")
    one, other = of_each(submodels)
    expected = (1 * one + 3 * 2 * other) / 4
    np.testing.assert_allclose(means[place(submodels, BIAS)], expected, rtol=1e-6)
    np.testing.assert_array_equal(trained[place(submodels, BIAS)], one | other)


def test_what_all_clients_train_is_the_same_with_both(submodels, sums):
    head = place(submodels, "head/bias")
    for averaging in ("counted", "zero_filled"):
        means, trained = averaged(sums, averaging)
        np.testing.assert_allclose(means[head], 1.75, rtol=1e-6)
        assert np.all(trained[head])


def test_clients_have_groups_in_turn():
    data = grouped([tf.data.Dataset.range(1)] * 3, 2)
    assert [int(client["group"].get_single_element()) for client in data] == [0, 1, 0]


def test_each_client_trains_the_sub_model_of_its_group(origin, config, population):
    model_config = origin.model_config
    plan = ClientPlan(units=[{"feed_forward_1": 16}], groups=2)
    submodels = SubModels(model_config, plan, config.seed)
    process = build_process(model_config, plan, config)

    def moved(clients):
        """Which inner units a round with these clients moves."""
        model = build_model(model_config)
        initialize(Layout(model), 0)
        before = [variable.numpy() for variable in model.variables]
        data = [population.pipeline.round(client, 3) for client in clients]
        metrics = Server(process, model).next(3, grouped(data, 2))
        assert metrics["clients"] == len(clients)
        kernel = place(submodels, "block_0/feed_forward_1/up/kernel")
        return (model.variables[kernel].numpy() != before[kernel]).any(0)

    drawn = [submodels.indices(2 * 3 + group)[0, "feed_forward_1"].numpy() for group in (0, 1)]
    first, second = (np.isin(np.arange(64), units) for units in drawn)
    assert (first != second).any()
    np.testing.assert_array_equal(moved(population.clients[:1]), first)
    np.testing.assert_array_equal(moved(population.clients[:2]), first | second)
