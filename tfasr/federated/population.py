"""The clients of a federated run, and who of them takes part in which round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfasr.configs.clients import ClientsConfig
from tfasr.configs.federated import FederateConfig
from tfasr.configs.seeds import counted_generator
from tfasr.data.clients import Client, ClientPipeline
from tfasr.training.run import Run


@dataclass(frozen=True)
class Drawn:
    """A client of a round.

    Args:
        client: Who.
        place: In which it was drawn, from 0.
        answers: Whether it sends an update.
        steps: That it makes.
        slow: Whether it is a straggler.
    """

    client: Client
    place: int
    answers: bool
    steps: int
    slow: bool


def client_pipeline(run: Run, config: FederateConfig) -> ClientPipeline:
    """Makes what turns a client and a round into batches.

    Args:
        run: Whose features the model hears.
        config: What a client does in a round.
    """
    return ClientPipeline(
        extractor=run.extractor,
        augmentation=config.augmentation,
        masking=config.masking,
        batch=config.client_batch,
        steps=config.client_steps,
        straggler_share=config.clients.straggler_share,
        seed=config.seed,
    )


@dataclass(frozen=True)
class Population:
    """The clients, and what each of them trains on.

    Args:
        clients: All of them.
        pipeline: From a client and a round to batches.
        config: How they are drawn, and which fail.
    """

    clients: Sequence[Client]
    pipeline: ClientPipeline
    config: ClientsConfig

    def require(self, size: int) -> None:
        """Refuses rounds of more clients than there are.

        Raises:
            ValueError: There are not as many clients.
        """
        if size > len(self.clients):
            raise ValueError(
                f"clients_per_round must not exceed the clients; got clients_per_round={size} of "
                f"{len(self.clients)} clients. Lower it, or choose more domains or another "
                "clients.by"
            )

    def sample(self, size: int, seed: int, round_number: int) -> list[Drawn]:
        """Draws the clients of a round without replacement.

        Args:
            size: How many.
            seed: The run's.
            round_number: Rounds done before it.

        Raises:
            ValueError: As `require`.
        """
        self.require(size)
        shares = None
        if self.config.sampling == "weighted":
            utterances = np.array([client.utterances for client in self.clients], np.float64)
            shares = utterances / utterances.sum()
        generator = counted_generator(seed, "clients", round_number)
        chosen = generator.choice(len(self.clients), size, replace=False, p=shares)
        return [
            self._drawn(self.clients[index], place, seed, round_number)
            for place, index in enumerate(chosen)
        ]

    def _drawn(self, client: Client, place: int, seed: int, round_number: int) -> Drawn:
        luck = counted_generator(seed, "client_answers", client.name, round_number).random()
        return Drawn(
            client,
            place,
            answers=luck >= self.config.dropout_share,
            steps=self.pipeline.num_steps(client),
            slow=self.pipeline.most_steps(client) < self.pipeline.steps,
        )

    def not_finite(self, drawn: Sequence[Drawn], round_number: int) -> list[str]:
        """Names the clients whose audio gives features that are not finite.

        TFF sums up what clients report, so who sent what is not known; but what each of them was
        about to train on can be looked through again.
        """
        return [
            each.client.name
            for each in drawn
            if not all(
                bool(tf.reduce_all(tf.math.is_finite(batch["features"])))
                for batch in self.pipeline.round(each.client, round_number)
            )
        ]
