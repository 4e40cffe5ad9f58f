"""Federated averaging of sub-models, composed of TFF's four parts."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.configs.federated import FederateConfig
from tfasr.configs.model import ModelConfig
from tfasr.data.clients import batch_spec
from tfasr.federated.aggregators import make_aggregator
from tfasr.federated.groups import accumulator, averaged, compose_groups
from tfasr.federated.optimizers import client_optimizer, server_optimizer
from tfasr.federated.plans import ClientPlan
from tfasr.federated.submodels import SubModels, full_type, model_weights
from tfasr.losses.ctc import ctc_loss
from tfasr.models.building import build_model
from tfasr.models.layout import Layout
from tfasr.models.scopes import zeros_at_first


class ClientModel(tff.learning.models.VariableModel):
    """A client's Conformer and its loss, as TFF trains it.

    Dropout is that of the configuration, drawn from the seed that each batch carries.

    Args:
        config: The full model.
        plan: What the client's model is, and which of its blocks it trains.
    """

    def __init__(self, config: ModelConfig, plan: ClientPlan) -> None:
        with zeros_at_first():
            self._model = build_model(config, plan.units)
        # Weights of the model, whether Keras calls them trainable or not: it has no others.
        self._entries = Layout(self._model).entries
        self._frozen = plan.frozen
        self._loss = tf.Variable(0.0, trainable=False, name="loss_sum")
        self._utterances = tf.Variable(0.0, trainable=False, name="utterances")
        self._clients = tf.Variable(0.0, trainable=False, name="clients")

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        return [entry.variable for entry in self._entries if entry.block not in self._frozen]

    @property
    def non_trainable_variables(self) -> list[tf.Variable]:
        return [entry.variable for entry in self._entries if entry.block in self._frozen]

    @property
    def local_variables(self) -> list[tf.Variable]:
        return [self._loss, self._utterances, self._clients]

    @property
    def input_spec(self) -> collections.OrderedDict[str, tf.TensorSpec]:
        return batch_spec(self._model.num_mels)

    def predict_on_batch(self, batch_input: Any, training: bool = True) -> tf.Tensor:
        seed = batch_input["seed"] if training else None
        return self._model(batch_input["features"], batch_input["num_frames"], seed=seed)

    # The model is written in TensorFlow's operations: to look for Python's in all of its code, as
    # AutoGraph does, took most of the time that it takes to trace it.
    @tf.autograph.experimental.do_not_convert
    def forward_pass(
        self, batch_input: Any, training: bool = True
    ) -> tff.learning.models.BatchOutput:
        logits = self.predict_on_batch(batch_input, training)
        frames = self._model.encoded_frames(batch_input["num_frames"])
        losses = ctc_loss(logits, frames, batch_input["tokens"], batch_input["num_tokens"])
        self._loss.assign_add(tf.reduce_sum(losses))
        self._utterances.assign_add(tf.cast(tf.size(losses), tf.float32))
        self._clients.assign(1.0)
        return tff.learning.models.BatchOutput(
            loss=tf.reduce_mean(losses), predictions=logits, num_examples=tf.size(losses)
        )

    @tf.function
    def report_local_unfinalized_metrics(self) -> collections.OrderedDict[str, list[tf.Tensor]]:
        return collections.OrderedDict(
            loss=[self._loss.read_value(), self._utterances.read_value()],
            clients=[self._clients.read_value()],
        )

    def metric_finalizers(self) -> collections.OrderedDict[str, Callable[..., tf.Tensor]]:
        return collections.OrderedDict(
            loss=tf.function(lambda sums: tf.math.divide_no_nan(sums[0], sums[1])),
            clients=tf.function(lambda sums: sums[0]),
        )

    @tf.function
    def reset_metrics(self) -> None:
        for variable in self.local_variables:
            variable.assign(tf.zeros_like(variable))


def build_process(
    model: ModelConfig, plan: ClientPlan, config: FederateConfig
) -> tff.learning.templates.LearningProcess:
    """Composes the process of a run's rounds.

    The server holds the full weights; a round's sub-model goes out, the clients train it with
    SGD, and the mean of their updates, weighted by utterances, or what another aggregator makes
    of them, goes back to where its weights came from. A coordinate that no client trained keeps
    its weight and its optimizer state.

    Args:
        model: The full model.
        plan: What a client's model is, and what of it travels.
        config: Optimizers, aggregator and seed.

    Returns:
        The process; `initialize` gives zeros for weights.

    Raises:
        ValueError: The model has batch normalisation, whose moving averages are no gradients
            and would not come back from the clients.
    """
    if model.encoder.conv_norm == "batch":
        raise ValueError(
            "a client's model must not have batch normalisation; "
            f"got conv_norm={model.encoder.conv_norm}"
        )
    submodels = SubModels(model, plan, config.seed, config.plan.scaling)
    client_work = tff.learning.templates.build_model_delta_client_work(
        lambda: ClientModel(model, plan),
        client_optimizer(config),
        tff.learning.ClientWeighting.NUM_EXAMPLES,
        # TFF's default, a dataset's reduce, sets its graph up anew for every client and round,
        # which took three times as long as the steps themselves.
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )
    result = client_work.next.type_signature.result.result.member
    shapes = [entry.shape for entry in submodels.full]
    zeros = tff.tensorflow.computation(lambda: [tf.zeros(shape) for shape in shapes])
    optimizer = server_optimizer(config)
    if plan.groups > 1:
        _, sums_type = accumulator(submodels, result.update)
        finalizer = build_finalizer(
            submodels, optimizer, sums_type, lambda sums, _: averaged(sums, config.averaging)
        )
        return compose_groups(zeros, submodels, plan.groups, client_work, finalizer)
    return tff.learning.templates.compose_learning_process(
        zeros,
        build_distributor(submodels),
        client_work,
        make_aggregator(config).create(result.update, result.update_weight),
        build_finalizer(submodels, optimizer, result.update, submodels.scatter_update),
    )


def build_distributor(submodels: SubModels) -> tff.learning.templates.DistributionProcess:
    """Builds the part that sends a round's sub-model to the clients.

    Its state is the number of rounds done.
    """
    weights_type = full_type(submodels)

    @tff.tensorflow.computation(np.int32, weights_type)
    def take(round_number: tf.Tensor, weights: list[tf.Tensor]) -> Any:
        return submodels.send(list(weights), round_number)

    @tff.tensorflow.computation(take.type_signature.result)
    def put_together(message: Any) -> Any:
        return model_weights(submodels, message)

    @tff.tensorflow.computation(np.int32)
    def successor(round_number: tf.Tensor) -> tf.Tensor:
        return round_number + 1

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER), tff.FederatedType(weights_type, tff.SERVER)
    )
    def following(state: Any, weights: Any) -> Any:
        sent = tff.federated_broadcast(tff.federated_map(take, (state, weights)))
        sent = tff.federated_map(put_together, sent)
        return tff.templates.MeasuredProcessOutput(
            tff.federated_map(successor, state), sent, tff.federated_value((), tff.SERVER)
        )

    return tff.learning.templates.DistributionProcess(initialize, following)


def build_finalizer(
    submodels: SubModels,
    optimizer: tff.learning.optimizers.Optimizer,
    update_type: Any,
    spread: Callable[[Any, tf.Tensor], tuple[list[tf.Tensor], list[tf.Tensor]]],
) -> tff.learning.templates.FinalizerProcess:
    """Builds the part that puts the clients' mean update into the full weights.

    Its state is the number of rounds done and the optimizer's state.

    Args:
        submodels: The sub-models.
        optimizer: The server's.
        update_type: Of what the aggregator gives.
        spread: From that and the number of rounds done to an update of the full model and masks,
            as `SubModels.scatter_update`.
    """
    weights_type = full_type(submodels)
    specs = [tf.TensorSpec(entry.shape) for entry in submodels.full]

    @tff.tensorflow.computation
    def first_state() -> Any:
        return collections.OrderedDict(round=0, optimizer=optimizer.initialize(specs))

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_eval(first_state, tff.SERVER)

    state_type = initialize.type_signature.result.member

    @tff.tensorflow.computation(state_type, weights_type, update_type)
    def apply(state: Any, weights: list[tf.Tensor], update: Any) -> Any:
        weights, before = list(weights), state["optimizer"]
        gradient, trained = spread(update, state["round"])
        after, moved = optimizer.next(before, weights, gradient)
        new_state = collections.OrderedDict(
            round=state["round"] + 1, optimizer=_where_trained(trained, after, before)
        )
        return new_state, [
            tf.where(*leaves) for leaves in zip(trained, moved, weights, strict=True)
        ]

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(update_type, tff.SERVER),
    )
    def following(state: Any, weights: Any, update: Any) -> Any:
        new_state, new_weights = tff.federated_map(apply, (state, weights, update))
        return tff.templates.MeasuredProcessOutput(
            new_state, new_weights, tff.federated_value((), tff.SERVER)
        )

    return tff.learning.templates.FinalizerProcess(initialize, following)


def _where_trained(trained: list[tf.Tensor], after: Any, before: Any) -> Any:
    """Takes `after` for scalars, such as Adam's step, and for coordinates that were trained."""
    return collections.OrderedDict(
        (
            name,
            [tf.where(*leaves) for leaves in zip(trained, value, before[name], strict=True)]
            if isinstance(value, (list, tuple))
            else value,
        )
        for name, value in after.items()
    )
