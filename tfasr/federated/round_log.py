"""What is written of every round: a line of JSON and TensorBoard's curves."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfasr.artifacts.files import append_json_line, read_json_lines, write_json_lines
from tfasr.federated.accounting import Account
from tfasr.federated.population import Drawn

LOG = "rounds.jsonl"
_TOTALS = ("bytes_down_in_total", "bytes_up_in_total")


class RoundLog:
    """The log of a run, with its traffic so far.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self.totals = dict.fromkeys(_TOTALS, 0)

    def keep(self, last: int) -> None:
        """Takes rounds after `last` out of the log; they are about to be run again."""
        rows = read_json_lines(self.path) if self.path.exists() else []
        kept = [row for row in rows if row["round"] <= last]
        if rows:
            write_json_lines(self.path, kept)
        self.totals = {name: kept[-1].get(name, 0) if kept else 0 for name in _TOTALS}

    def traffic(self, sizes: Account, drawn: Sequence[Drawn]) -> dict[str, float]:
        """Counts a round's traffic into the totals.

        Args:
            sizes: Of one client's.
            drawn: The round's clients: all are sent a model, those that answer return an update.

        Returns:
            Figures of a client and of the whole run up to this round.
        """
        answers = sum(each.answers for each in drawn)
        spent = (len(drawn) * sizes.bytes_down, answers * sizes.bytes_up)
        for name, size in zip(_TOTALS, spent, strict=True):
            self.totals[name] += size
        return {**sizes.to_json(), **self.totals}

    def megabytes(self) -> dict[str, float]:
        """The traffic so far, for a progress line."""
        down, up = (self.totals[name] / 1e6 for name in _TOTALS)
        return {"MB_down": down, "MB_up": up}

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a round's line, and its numbers to TensorBoard."""
        append_json_line(self.path, dict(row))
        with self._summary.as_default(step=row["round"]):
            for name, value in row.items():
                if name != "round" and isinstance(value, (int, float)):
                    tf.summary.scalar(name, value)
        self._summary.flush()

    @cached_property
    def _summary(self) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(str(self.path.with_name("tensorboard")))


def turnout(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Says who was drawn for a round and how it went with them."""
    answering = [each for each in drawn if each.answers]
    return {
        "clients": [each.client.name for each in drawn],
        "dropped_out": [each.client.name for each in drawn if not each.answers],
        "stragglers": [each.client.name for each in answering if each.slow],
        "steps": sum(each.steps for each in answering),
    }
