"""The rounds of a federated run: exact to resume, the same for the same seed."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tfasr.artifacts.files import write_json
from tfasr.configs.federated import FederateConfig
from tfasr.evaluation.transcription import Validation
from tfasr.federated.groups import grouped
from tfasr.federated.hosts import computing
from tfasr.federated.phases import Phase
from tfasr.federated.population import Drawn, Population
from tfasr.federated.round_log import RoundLog, turnout
from tfasr.federated.seeding import SeededBlocks
from tfasr.models.building import build_model
from tfasr.models.layout import Layout, weights_hash
from tfasr.training.checkpoints import Progress
from tfasr.training.loop import Report
from tfasr.training.run import Run


class FederatedTrainer:
    """Runs the rounds of a federated run from wherever it stands.

    Args:
        run: The run's folder.
        config: Its settings; more rounds than the run was made with prolong it.
        phases: Of `build_phases`, for the run's model and these settings.
        population: The clients.
        validate: From the model to figures by name, "wer" among them.
    """

    def __init__(
        self,
        run: Run,
        config: FederateConfig,
        phases: Sequence[Phase],
        population: Population,
        validate: Validation,
    ) -> None:
        self.run = run
        self.config = config
        self.population = population
        self.validate = validate
        # After the processes: Keras swaps the base classes of all layers with the mode in which
        # one of them was last made, and a process makes its models in graphs.
        self.model = build_model(run.model_config)
        self.phases = phases
        self.log = RoundLog(run.folder)
        self.lost: set[str] = set()

    def train(self, report: Report) -> Progress:
        """Runs the rounds that are left, a checkpoint after every one.

        Args:
            report: Called after every round.

        Returns:
            Where the run stands at its end.

        Raises:
            ValueError: No client of a round came back with a finite update, or a worker of other
                machines does not answer at the start.
            WorkerLost: There is no worker left.
        """
        with computing(self.config.workers, self.run.folder / "worker.log") as self.lost:
            server = Server(self.phases[0].process, self.model)
            progress = self._resume(server)
            while progress.step < self.config.rounds:
                progress, figures = self._round(server, progress)
                self.run.checkpoints.save(server.checkpoint, progress)
                report(progress.step, self.config.rounds, **figures)
        return progress

    def _resume(self, server: "Server") -> Progress:
        self.run.checkpoints.remove_unfinished()
        steps = self.run.checkpoints.steps()
        if steps:
            progress = self.run.checkpoints.restore(server.checkpoint, steps[-1])
            self.log.keep(progress.step)
            return progress
        self.log.keep(-1)
        origin = Run(self.config.run).trained_model()
        for variable, value in zip(self.model.variables, origin.variables, strict=True):
            variable.assign(value)
        plan = self.phases[0].plan
        seeding = SeededBlocks(Layout(self.model).entries, plan.seeded, self.config.seed)
        for place, value in seeding.draw(seeding.seeds()).items():
            self.model.variables[place].assign(value)
        origin_hash = weights_hash(Layout(origin))
        write_json(self.run.folder / "origin.json", {"model_hash": origin_hash})
        progress = Progress(validation=self.validate(self.model))
        self.log.write({"round": 0, **progress.validation})
        self.run.checkpoints.save(server.checkpoint, progress)
        return progress

    def _round(self, server: "Server", progress: Progress) -> tuple[Progress, dict[str, float]]:
        started, number = time.monotonic(), progress.step
        drawn = self.population.sample(self.config.clients_per_round, self.config.seed, number)
        phase = [phase for phase in self.phases if phase.first <= number][-1]
        outcome = self._train(server, phase, drawn, number)
        seconds = time.monotonic() - started
        done = replace(progress, step=number + 1, seconds=progress.seconds + seconds)
        # Only figures of these very weights may decide which checkpoint is best.
        due = done.step % self.config.evaluate_every == 0 or done.step == self.config.rounds
        done = replace(done, validation=self.validate(self.model) if due else {})
        who = turnout(drawn)
        pace = {"step_seconds": round(seconds / who["steps"], 4)} if who["steps"] else {}
        lost = {"workers_lost": sorted(self.lost)} if self.lost else {}
        self.lost.clear()
        row = {
            "round": done.step,
            **who,
            **lost,
            **outcome,
            **self.log.traffic(phase.sizes, drawn),
            **(phase.cost.to_row() if phase.cost else {}),
            "seconds": round(seconds, 3),
            **pace,
            **done.validation,
        }
        self.log.write(row)
        figures = {"loss": row["loss"]} if "loss" in row else {}
        figures |= {**done.validation, **pace, **self.log.megabytes()}
        return done, figures | {name: len(addresses) for name, addresses in lost.items()}

    def _train(
        self, server: "Server", phase: Phase, drawn: Sequence[Drawn], number: int
    ) -> dict[str, Any]:
        data = [self.population.pipeline.round(each.client, number) for each in drawn]
        if phase.plan.groups > 1:
            data = grouped(data, phase.plan.groups)
        # After the groups: a client that does not answer leaves a gap in its own.
        answering = [each for each in drawn if each.answers]
        if not answering:
            return {"not_finite": 0}
        server.process = phase.process
        metrics = server.next(number, [data[each.place] for each in answering])
        finite = round(float(metrics["clients"]))
        outcome: dict[str, Any] = {"not_finite": len(answering) - finite}
        if outcome["not_finite"]:
            outcome["audio_not_finite"] = self.population.not_finite(answering, number)
        if not finite:
            raise ValueError(self._nothing_finite(outcome["audio_not_finite"], answering, number))
        return {**outcome, "loss": float(metrics["loss"])}

    def _nothing_finite(self, deaf: Sequence[str], drawn: Sequence[Drawn], number: int) -> str:
        rule = f"some client's update must be finite; got none of {len(drawn)} in round "
        if deaf:
            return (
                f"{rule}{number + 1}: NaN or infinity in the features of {', '.join(deaf)}. "
                "Check augmentation, and the recordings of these clients"
            )
        return (
            f"{rule}{number + 1}. Lower client_learning_rate={self.config.client_learning_rate} "
            f"or server_learning_rate={self.config.server_learning_rate}"
        )


class Server:
    """The server's side between rounds: weights in a model, all else in variables.

    What a round changes is the weights, the states of the optimizer and the aggregator, and the
    number of rounds; TFF's other state is settings.

    Args:
        process: Of `build_process`; may be replaced by another for the same model and optimizer.
        model: Holds the full weights.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess, model: Any) -> None:
        self.process = process
        self.model = model
        self._first = process.initialize()
        self._optimizer = _variables(self._first.finalizer["optimizer"])
        self._aggregator = _variables(self._first.aggregator)
        # Keras searches all layers for them every time.
        self._weights = list(model.variables)
        self.checkpoint = tf.train.Checkpoint(
            model=model,
            server=tf.train.Checkpoint(optimizer=self._optimizer, aggregator=self._aggregator),
        )

    def next(self, round_number: int, data: Sequence[Any]) -> Any:
        """Runs one round.

        Args:
            round_number: Rounds done before it.
            data: Of each client, with its group where the plan has several.

        Returns:
            "loss" per utterance, over all steps of all clients, and the number of "clients"
            whose update was finite.
        """
        first = self._first
        optimizer = _packed(first.finalizer["optimizer"], self._optimizer)
        state = tff.learning.templates.LearningAlgorithmState(
            global_model_weights=[variable.numpy() for variable in self._weights],
            distributor=round_number,
            client_work=first.client_work,
            aggregator=_packed(first.aggregator, self._aggregator),
            finalizer={"round": round_number, "optimizer": optimizer},
        )
        output = self.process.next(state, list(data))
        after = [
            *output.state.global_model_weights,
            *tf.nest.flatten(output.state.finalizer["optimizer"]),
            *tf.nest.flatten(output.state.aggregator),
        ]
        variables = [*self._weights, *self._optimizer, *self._aggregator]
        for variable, value in zip(variables, after, strict=True):
            variable.assign(value, read_value=False)
        return output.metrics["client_work"]["train"]


def _variables(state: Any) -> list[tf.Variable]:
    return [tf.Variable(value, trainable=False) for value in tf.nest.flatten(state)]


def _packed(state: Any, variables: Sequence[tf.Variable]) -> Any:
    return tf.nest.pack_sequence_as(state, [variable.numpy() for variable in variables])
