"""Rounds in which groups of clients train sub-models of their own."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.configs.federated import Averaging
from tfasr.federated.submodels import SubModels, full_type, model_weights


def grouped(data: Sequence[tf.data.Dataset], groups: int) -> list[Any]:
    """Gives each client of a round its group, in turn: they were drawn in no order.

    Args:
        data: Of each client.
        groups: Sub-models of the round.
    """
    return [
        collections.OrderedDict(
            data=dataset, group=tf.data.Dataset.from_tensors(tf.constant(place % groups))
        )
        for place, dataset in enumerate(data)
    ]


def compose_groups(
    initialize_weights: Any, submodels: SubModels, groups: int, client_work: Any, finalizer: Any
) -> tff.learning.templates.LearningProcess:
    """Composes a process whose clients fetch the sub-model of their group.

    TFF's own composition distributes weights before it looks at a client, so it has no place for
    what a client asks for; all parts but the distributor and the aggregator are the same.

    Args:
        initialize_weights: Gives the full weights, unplaced.
        submodels: The sub-models; that of group g in round r is draw `groups * r + g`.
        groups: Sub-models of a round.
        client_work: What a client does.
        finalizer: Takes what `accumulator` gives.

    Returns:
        A process that takes what `grouped` gives.
    """
    fetch = _fetching(submodels, groups)
    weigh, _ = accumulator(submodels, client_work.next.type_signature.result.result.member.update)
    data_type = client_work.next.type_signature.parameter[2].member
    clients_type = tff.FederatedType(
        collections.OrderedDict(data=data_type, group=tff.SequenceType(np.int32)), tff.CLIENTS
    )

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_zip(
            tff.learning.templates.LearningAlgorithmState(
                tff.federated_eval(initialize_weights, tff.SERVER),
                tff.federated_value(0, tff.SERVER),
                client_work.initialize(),
                tff.federated_value((), tff.SERVER),
                finalizer.initialize(),
            )
        )

    @tff.federated_computation(initialize.type_signature.result, clients_type)
    def following(state: Any, clients: Any) -> Any:
        draws, weights = fetch(state.distributor, state.global_model_weights, clients.group)
        work = client_work.next(state.client_work, weights, clients.data)
        sums = weigh(work.result, draws)
        final = finalizer.next(state.finalizer, state.global_model_weights, sums)
        after = tff.learning.templates.LearningAlgorithmState(
            final.result,
            tff.federated_map(_successor, state.distributor),
            work.state,
            state.aggregator,
            final.state,
        )
        return tff.learning.templates.LearningProcessOutput(
            tff.federated_zip(after),
            tff.federated_zip(collections.OrderedDict(client_work=work.measurements)),
        )

    access = _weights_access(initialize.type_signature.result.member)
    return tff.learning.templates.LearningProcess(initialize, following, *access)


@tff.tensorflow.computation(np.int32)
def _successor(number: tf.Tensor) -> tf.Tensor:
    return number + 1


def _weights_access(state_type: Any) -> tuple[Any, Any]:
    """What takes the weights out of a state, and what puts others in."""

    @tff.tensorflow.computation(state_type)
    def get(state: Any) -> Any:
        return state.global_model_weights

    @tff.tensorflow.computation(state_type, state_type.global_model_weights)
    def put(state: Any, weights: Any) -> Any:
        return tff.learning.templates.LearningAlgorithmState(
            weights, state.distributor, state.client_work, state.aggregator, state.finalizer
        )

    return get, put


def _fetching(submodels: SubModels, groups: int) -> Any:
    weights_type = full_type(submodels)

    @tff.tensorflow.computation((np.int32, weights_type), np.int32)
    def select(server: Any, group: tf.Tensor) -> Any:
        number, weights = server
        return submodels.send(list(weights), groups * number + group)

    @tff.tensorflow.computation(tff.SequenceType(np.int32))
    def key(group: tf.data.Dataset) -> tf.Tensor:
        return group.reduce(np.int32(0), lambda _, own: own)[None]

    @tff.tensorflow.computation(tff.SequenceType(select.type_signature.result))
    def put_together(messages: tf.data.Dataset) -> Any:
        message = messages.take(1).get_single_element()
        weights = model_weights(submodels, message)
        return collections.OrderedDict(draw=message["draw"], weights=weights)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS),
    )
    def fetch(number: Any, weights: Any, group: Any) -> Any:
        sent = tff.federated_select(
            tff.federated_map(key, group),
            tff.federated_value(groups, tff.SERVER),
            tff.federated_zip((number, weights)),
            select,
        )
        arrived = tff.federated_map(put_together, sent)
        return arrived["draw"], arrived["weights"]

    return fetch


def accumulator(submodels: SubModels, update_type: Any) -> tuple[Callable[..., Any], Any]:
    """Builds what adds up updates of unlike sub-models, each as small as the client sent it.

    Args:
        submodels: The sub-models.
        update_type: Of a client's update.

    Returns:
        What makes, of the clients' results and draws, at the server and in the full model's
        shapes, "sums" of weighted updates and the "weights" that went into each coordinate, and
        the "total" weight of all clients; and the type of that.
    """
    shapes = [entry.shape for entry in submodels.full]
    tagged_type = tff.to_type(
        collections.OrderedDict(update=update_type, weight=np.float32, draw=np.int32)
    )

    @tff.tensorflow.computation
    def nothing() -> Any:
        zeros = [tf.zeros(shape) for shape in shapes]
        return collections.OrderedDict(sums=zeros, weights=zeros, total=0.0)

    sums_type = nothing.type_signature.result

    @tff.tensorflow.computation(sums_type, tagged_type)
    def accumulate(sums: Any, client: Any) -> Any:
        weight = client["weight"]
        full, masks = submodels.scatter_update(list(client["update"]), client["draw"])
        weights = [weight * tf.cast(mask, tf.float32) for mask in masks]
        return collections.OrderedDict(
            sums=[s + weight * u for s, u in zip(sums["sums"], full, strict=True)],
            weights=[s + w for s, w in zip(sums["weights"], weights, strict=True)],
            total=sums["total"] + weight,
        )

    @tff.tensorflow.computation(sums_type, sums_type)
    def merge(one: Any, other: Any) -> Any:
        return tf.nest.map_structure(tf.add, one, other)

    @tff.tensorflow.computation(sums_type)
    def report(sums: Any) -> Any:
        return sums

    @tff.tensorflow.computation(
        tff.learning.templates.ClientResult(update=update_type, update_weight=np.float32), np.int32
    )
    def tag(result: Any, draw: tf.Tensor) -> Any:
        return collections.OrderedDict(update=result.update, weight=result.update_weight, draw=draw)

    def weigh(result: Any, draws: Any) -> Any:
        tagged = tff.federated_map(tag, (result, draws))
        return tff.federated_aggregate(tagged, nothing(), accumulate, merge, report)

    return weigh, sums_type


def averaged(sums: Any, averaging: Averaging) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Turns sums into a mean update.

    Args:
        sums: As `accumulator` gives them.
        averaging: By what each coordinate's sum is divided: the weights of the clients that
            trained it, or those of all, as if the others had sent zeros.

    Returns:
        In layout order, the update and bool masks, True where some client trained.
    """
    trained = [weights > 0 for weights in sums["weights"]]
    divisors = sums["weights"] if averaging == "counted" else [sums["total"]] * len(trained)
    means = [
        tf.math.divide_no_nan(total, divisor)
        for total, divisor in zip(sums["sums"], divisors, strict=True)
    ]
    return means, trained
