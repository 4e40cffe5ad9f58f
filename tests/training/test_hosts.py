import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.distribution import DistributionConfig
from tfasr.training.hosts import ALONE, Hosts


@pytest.mark.parametrize("hosts", [ALONE, Hosts(DistributionConfig(hosts=("a:1",)))])
def test_a_host_alone_is_its_own_chief_and_hears_itself(hosts):
    assert (hosts.index, hosts.count, hosts.is_chief) == (0, 1, True)
    assert hosts.sums([1.5, 2.0]) == [1.5, 2.0]
    assert hosts.of_chief([3.0]) == [3.0]
    hosts.wait()


def test_the_mean_of_one_host_s_gradients_is_they_themselves():
    gradients = [tf.constant([1.0, 2.0]), tf.IndexedSlices([[1.0]], [0], [3, 1])]
    assert ALONE.mean(gradients) is gradients


def test_a_host_alone_keeps_its_weights():
    variable = tf.Variable([1.0, -2.0])
    ALONE.follow_chief([variable])
    np.testing.assert_array_equal(variable, [1.0, -2.0])
