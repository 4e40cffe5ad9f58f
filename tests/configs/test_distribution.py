import json
from dataclasses import replace

import pytest

from tfasr.configs.data import BatchConfig
from tfasr.configs.distribution import DistributionConfig, distribution_of_environment
from tfasr.configs.training import OptimizerConfig, TrainConfig

HOSTS = ("a:1", "b:2")


def environment(task, **cluster):
    return json.dumps({"cluster": cluster, "task": task})


def test_no_cluster_is_this_host_alone():
    assert distribution_of_environment("") == DistributionConfig()
    assert distribution_of_environment("{}") == DistributionConfig()


def test_a_worker_is_known_by_its_index():
    tf_config = environment({"type": "worker", "index": 1}, worker=HOSTS)
    assert distribution_of_environment(tf_config) == DistributionConfig(hosts=HOSTS, index=1)


def test_a_chief_counts_before_the_workers():
    tf_config = environment({"type": "worker", "index": "1"}, chief=["c:3"], worker=HOSTS)
    found = distribution_of_environment(tf_config)
    assert found == DistributionConfig(hosts=("c:3", "a:1", "b:2"), index=2)


@pytest.mark.parametrize(
    "tf_config",
    [
        "{",
        "[]",
        environment({"type": "ps", "index": 0}, worker=HOSTS),
        environment({}, worker=HOSTS),
    ],
)
def test_another_cluster_is_refused(tf_config):
    with pytest.raises(ValueError, match="TF_CONFIG must name a cluster of chief and worker"):
        distribution_of_environment(tf_config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hosts": ("a",)}, "must be HOST:PORT each; got 'a'"),
        ({"hosts": ("a:1", "a:1")}, "must be different; got a:1, a:1"),
        ({"hosts": HOSTS, "index": 2}, "got distribution.index=2 and 2 hosts"),
        ({"index": 1}, "got distribution.index=1 and 0 hosts"),
    ],
)
def test_hosts_that_can_not_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DistributionConfig(**settings)


@pytest.fixture
def shared(tmp_path):
    return TrainConfig(
        data=tmp_path,
        run=tmp_path,
        optimizer=OptimizerConfig(accumulate=2),
        distribution=DistributionConfig(hosts=HOSTS),
    )


def test_a_step_s_batches_must_be_shared_evenly(shared):
    with pytest.raises(ValueError, match=r"got optimizer\.accumulate=3 and 2 hosts"):
        replace(shared, optimizer=OptimizerConfig(accumulate=3))


def test_hosts_that_train_together_take_no_batches_from_a_service(shared):
    with pytest.raises(ValueError, match=r"got batching\.service=s:1"):
        replace(shared, batching=BatchConfig(service="s:1"))
