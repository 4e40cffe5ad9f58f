"""What the hosts that train one run tell each other."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfasr.configs.distribution import DistributionConfig


class Hosts:
    """The hosts of a training, of which this process is one.

    Each has a model of its own. They begin alike, take the same updates by the mean of their
    gradients, and take over the chief's weights whenever the chief saves them; so neither the
    model nor the optimizer need know of the others.

    Args:
        config: Which hosts. None stands for this one alone, which tells nobody anything; of
            several this must be the first thing in the process that uses TensorFlow.

    Attributes:
        index: Of this host, from 0.
        count: Of all hosts.

    Raises:
        ValueError: A host trains on several devices, or cannot listen at its address.
    """

    def __init__(self, config: DistributionConfig) -> None:
        self.index = config.index
        self.count = max(1, len(config.hosts))
        self._strategy: tf.distribute.MultiWorkerMirroredStrategy | None = None
        if self.count == 1:
            return
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(config.hosts)}),
            task_type="worker",
            task_id=config.index,
            rpc_layer="grpc",
        )
        try:
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except tf.errors.OpError as error:
            address = config.hosts[config.index]
            raise ValueError(f"{address}: cannot listen there; {error.message}") from None
        if self._strategy.num_replicas_in_sync != self.count:
            raise ValueError(
                "a host must train on one device; start a process a device, each with one in "
                f"CUDA_VISIBLE_DEVICES; got {self._strategy.num_replicas_in_sync} devices on "
                f"{self.count} hosts"
            )
        self._sums = {kind: self._sum_of(kind) for kind in (tf.float32, tf.float64, tf.int64)}

    @property
    def is_chief(self) -> bool:
        """Whether this host validates and writes."""
        return self.index == 0

    def mean(self, gradients: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Takes the mean of all hosts' gradients, within a graph."""
        if self._strategy is None:
            return gradients
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return self._reduce(tf.distribute.ReduceOp.MEAN, dense)

    def sums(self, figures: Sequence[float]) -> list[float]:
        """Adds up figures over all hosts; waits for all of them."""
        if self._strategy is None:
            return list(figures)
        total = self._sums[tf.float64](tf.constant(figures, tf.float64))
        return [float(figure) for figure in total.numpy()]

    def wait(self) -> None:
        """Returns when all hosts have come here."""
        self.sums([0.0])

    def of_chief(self, figures: Sequence[float]) -> list[float]:
        """Gives the chief's figures to all."""
        return self.sums(figures if self.is_chief else [0.0] * len(figures))

    def follow_chief(self, variables: Sequence[tf.Variable]) -> None:
        """Gives variables the values that they have at the chief's."""
        if self._strategy is None:
            return
        for kind, summed in self._sums.items():
            ours = [variable for variable in variables if variable.dtype == kind]
            if not ours:
                continue
            flat = tf.concat([tf.reshape(variable, [-1]) for variable in ours], 0)
            chiefs = summed(flat if self.is_chief else tf.zeros_like(flat))
            parts = tf.split(chiefs, [variable.shape.num_elements() for variable in ours])
            for variable, part in zip(ours, parts, strict=True):
                variable.assign(tf.reshape(part, variable.shape))

    def _sum_of(self, kind: tf.DType) -> Callable[[tf.Tensor], tf.Tensor]:
        """Makes the sum over all hosts of vectors of one type."""
        made: Callable[[tf.Tensor], tf.Tensor] = tf.function(
            lambda vector: self._reduce(tf.distribute.ReduceOp.SUM, [vector])[0],
            input_signature=[tf.TensorSpec([None], kind)],
            autograph=False,
        )
        return made

    def _reduce(
        self, how: tf.distribute.ReduceOp, tensors: Sequence[tf.Tensor]
    ) -> Sequence[tf.Tensor]:
        strategy = self._strategy
        if strategy is None:
            return tensors

        def reduced(values: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
            # The strategy takes tensors whose device is told, such as those that are made here.
            placed = [tf.identity(value) for value in values]
            context = tf.distribute.get_replica_context()
            together: Sequence[tf.Tensor] = context.all_reduce(how, placed)
            return together

        everywhere: Sequence[tf.Tensor] = strategy.run(reduced, (list(tensors),))
        return everywhere


ALONE = Hosts(DistributionConfig())
