"""Which part of the weights a client's model is, and where its update belongs."""

import collections
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfasr.configs.federated import PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.configs.seeds import counted_seed
from tfasr.federated.plans import ClientPlan
from tfasr.federated.seeding import SeededBlocks
from tfasr.models.building import full_units
from tfasr.models.layout import SUMMING, Entry, UnitAxis, layout_without_weights

Module = tuple[int | None, str]


class SubModels:
    """The sub-models of a run, one a round: slices of the full model's modules.

    A module of u units that keeps k sends the k slices of its variables that are theirs (of a
    feed-forward module, columns of its expansion and rows of its projection back), drawn anew
    each round and the same for all clients of a round, or of a group in it: TFF traces one graph
    for all of them, so sizes are fixed and only the indices vary. Where a round has g groups,
    what is called a round's number here is that of the draw: g times the round and the group.

    With `scaling="inverse"` the projection goes out multiplied by u / k, and its update comes
    back divided by that: the sum over the kept units has the expectation of the sum over all,
    and what a client learned on its slice is what the server's weights say of that slice. It
    also makes the sum noisier, and a residual branch that is merely weak does little harm, so
    it is no default: with half of all units dropped from a 6-block model of connected digits,
    clients began at a loss of 9.0 with it and 6.0 without, and the full model's error rates
    after 6 and 12 rounds favoured now one, now the other.

    Args:
        config: The full model.
        plan: What the client's model is, and what of it travels.
        seed: The run's seed.
        scaling: Of the kept units' sum.

    Source: Caldas et al. (2018), "Expanding the Reach of Federated Learning by Reducing Client
    Resource Requirements", section 3; Srivastava et al. (2014), "Dropout", section 4, for the
    scaling.
    """

    def __init__(
        self,
        config: ModelConfig,
        plan: ClientPlan,
        seed: int,
        scaling: Literal["none", "inverse"] = PlanConfig.scaling,
    ) -> None:
        self.full = layout_without_weights(config).entries
        self.small = layout_without_weights(config, plan.units).entries
        self.trained = [entry.block not in plan.frozen for entry in self.full]
        self.seeding = SeededBlocks(self.full, plan.seeded, seed)
        self.units: dict[Module, int] = {}
        self.kept: dict[Module, int] = {}
        self.groups = plan.groups
        self.scaling = scaling
        self.seed = seed
        for block, (units, some) in enumerate(zip(full_units(config), plan.units, strict=True)):
            for module in units:
                if some.get(module, units[module]) < units[module]:
                    self.units[block, module] = units[module]
                    self.kept[block, module] = some[module]

    def indices(self, round_number: tf.Tensor | int) -> dict[Module, tf.Tensor]:
        """Draws the kept units of a round.

        Args:
            round_number: Rounds done before it, scalar int32.

        Returns:
            By block and module, [k] int32 rising; modules that keep all units are left out.
        """
        return {
            module: self._draw(module, units, round_number) for module, units in self.units.items()
        }

    def _draw(self, module: Module, units: int, round_number: tf.Tensor | int) -> tf.Tensor:
        seed = counted_seed(self.seed, "slices", *map(str, module))
        own = tf.random.experimental.stateless_fold_in(seed, round_number)
        draws = tf.random.stateless_uniform([units], own, alg="philox")
        return tf.sort(tf.math.top_k(draws, self.kept[module]).indices)

    def slice_weights(
        self, weights: Sequence[tf.Tensor], round_number: tf.Tensor | int
    ) -> list[tf.Tensor]:
        """Takes a round's sub-model out of the full weights.

        Args:
            weights: Of the full model, in layout order.
            round_number: Rounds done before it, scalar int32.

        Returns:
            Weights of the client's model, in layout order.
        """
        indices = self.indices(round_number)
        return [
            self._slice(entry, weight, indices)
            for entry, weight in zip(self.full, weights, strict=True)
        ]

    def send(
        self, weights: Sequence[tf.Tensor], round_number: tf.Tensor | int
    ) -> collections.OrderedDict[str, Any]:
        """Makes what a client is sent.

        Args:
            weights: Of the full model, in layout order.
            round_number: Rounds done before it, scalar int32.

        Returns:
            The "weights" of the sub-model that do not come of a seed, in layout order; where
            some do, their "seeds" [S, 2] and "fingerprints" [S, 8]; and where the client must
            know which sub-model it has, `round_number` as "draw".
        """
        seeded = self.seeding.entries
        small = self.slice_weights(weights, round_number)
        message: dict[str, Any] = {
            "weights": [part for place, part in enumerate(small) if place not in seeded]
        }
        if seeded:
            message["seeds"] = self.seeding.seeds()
            message["fingerprints"] = self.seeding.fingerprints(
                {place: weights[place] for place in seeded}
            )
        if seeded or self.groups > 1:
            message["draw"] = tf.identity(round_number)
        # TFF's runtime puts what a client selects into a dataset in the order of its type, and
        # tf.data takes it out in the order of the names.
        return collections.OrderedDict(sorted(message.items()))

    def receive(self, message: Any) -> list[tf.Tensor]:
        """Makes a client's weights of what it was sent.

        Args:
            message: As `send` made it.

        Returns:
            Weights of the client's model, in layout order.

        Raises:
            tf.errors.InvalidArgumentError: What a seed gives is not what the server has.
        """
        arrived, seeded = iter(message["weights"]), self.seeding.entries
        if not seeded:
            return list(arrived)
        indices = self.indices(message["draw"])
        drawn = self.seeding.draw_checked(message["seeds"], message["fingerprints"])
        return [
            self._slice(entry, drawn[place], indices) if place in seeded else next(arrived)
            for place, entry in enumerate(self.full)
        ]

    def scatter_update(
        self, update: Sequence[tf.Tensor], round_number: tf.Tensor | int
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Puts a sub-model's update where its weights came from.

        Args:
            update: Of what the client's model trains, in layout order.
            round_number: As the slice was taken with.

        Returns:
            In layout order and in the full model's shapes: the update, zero where nothing was
            trained, and bool masks, True where something was.
        """
        indices = self.indices(round_number)
        arrived = iter(update)
        pairs = [
            self._scatter(entry, next(arrived), indices)
            if trained
            else (tf.zeros(entry.shape), tf.zeros(entry.shape, tf.bool))
            for entry, trained in zip(self.full, self.trained, strict=True)
        ]
        return [full for full, _ in pairs], [mask for _, mask in pairs]

    def _sliced_axis(self, entry: Entry) -> UnitAxis | None:
        return entry.unit_axis if _module(entry) in self.kept else None

    def _scale(self, entry: Entry) -> float:
        if self.scaling == "none" or entry.role not in SUMMING:
            return 1.0
        return self.units[_module(entry)] / self.kept[_module(entry)]

    def _slice(
        self, entry: Entry, weight: tf.Tensor, indices: dict[Module, tf.Tensor]
    ) -> tf.Tensor:
        axis = self._sliced_axis(entry)
        if axis is None:
            return tf.identity(weight)
        places = self._places(entry, axis, indices[_module(entry)])
        return tf.gather(weight, places, axis=axis.axis) * self._scale(entry)

    def _scatter(
        self, entry: Entry, part: tf.Tensor, indices: dict[Module, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        axis = self._sliced_axis(entry)
        if axis is None:
            return part, tf.ones(entry.shape, tf.bool)
        length = entry.shape[axis.axis]
        places = self._places(entry, axis, indices[_module(entry)])
        # Where in the part each place of the whole is, counted from 1.
        origin = tf.scatter_nd(places[:, None], tf.range(1, tf.size(places) + 1), [length])
        whole = tf.gather(part / self._scale(entry), tf.maximum(origin - 1, 0), axis=axis.axis)
        shape = [length if number == axis.axis else 1 for number in range(len(entry.shape))]
        mask = tf.broadcast_to(tf.reshape(origin > 0, shape), entry.shape)
        return tf.where(mask, whole, tf.zeros([], part.dtype)), mask

    def _places(self, entry: Entry, axis: UnitAxis, indices: tf.Tensor) -> tf.Tensor:
        """Where the units [k] of an entry's module lie along its axis, in their order."""
        units = self.units[_module(entry)]
        width = entry.shape[axis.axis] // (axis.copies * units)
        rows = units * tf.range(axis.copies)[:, None] + indices  # [copies, k]
        return tf.reshape(width * rows[..., None] + tf.range(width), [-1])


def full_type(submodels: SubModels) -> Any:
    """The type of the full weights, in layout order."""
    return tff.to_type([tff.TensorType(np.float32, entry.shape) for entry in submodels.full])


def model_weights(submodels: SubModels, message: Any) -> tff.learning.models.ModelWeights:
    """Makes a client's weights, as TFF wants them, of what it was sent."""
    weights = list(zip(submodels.trained, submodels.receive(message), strict=True))
    return tff.learning.models.ModelWeights(
        trainable=[weight for trained, weight in weights if trained],
        non_trainable=[weight for trained, weight in weights if not trained],
    )


def _module(entry: Entry) -> Module:
    return entry.block, entry.module
