"""Hosts that train one run together."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DistributionConfig:
    """The hosts of a training; each is given the same command but for its index.

    The folders of data and run must lie under the same path on all. Each host takes its part of
    the `optimizer.accumulate` batches of a step, so that their number changes nothing in what is
    trained: a run may go on with more hosts or fewer. The first host alone validates and writes.

    Args:
        hosts: HOST:PORT of each, under which the others reach it, this one among them. Where
            none is given, those that the environment's TF_CONFIG names, or this host alone.
        index: Of this host among them, from 0.
    """

    hosts: tuple[str, ...] = ()
    index: int = 0

    def __post_init__(self) -> None:
        for address in self.hosts:
            host, _, port = address.rpartition(":")
            if not (host and port.isdecimal()):
                raise ValueError(f"distribution.hosts must be HOST:PORT each; got {address!r}")
        if len(set(self.hosts)) < len(self.hosts):
            raise ValueError(f"distribution.hosts must be different; got {', '.join(self.hosts)}")
        if not 0 <= self.index < max(1, len(self.hosts)):
            raise ValueError(
                "distribution.index must be that of one of distribution.hosts; got "
                f"distribution.index={self.index} and {len(self.hosts)} hosts"
            )


def distribution_of_environment(tf_config: str) -> DistributionConfig:
    """Reads TF_CONFIG as clusters set it: `{"cluster": {"worker": [..]}, "task": {..}}`.

    Args:
        tf_config: Its value; "" is no cluster. A "chief" counts before the workers.

    Raises:
        ValueError: It is something else, or this process is to be neither chief nor worker.
    """
    if not tf_config:
        return DistributionConfig()
    try:
        value = json.loads(tf_config)
        cluster, task = value.get("cluster", {}), value.get("task", {})
        chiefs, workers = (tuple(cluster.get(job, ())) for job in ("chief", "worker"))
        if not chiefs + workers:
            return DistributionConfig()
        before = {"chief": 0, "worker": len(chiefs)}[task["type"]]
        return DistributionConfig(hosts=chiefs + workers, index=before + int(task["index"]))
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError):
        raise ValueError(
            "TF_CONFIG must name a cluster of chief and worker, and which of them this is; "
            f"got {tf_config[:200]}"
        ) from None
