from pathlib import Path

import pytest
import tensorflow as tf

from tfasr.artifacts.files import read_json_lines
from tfasr.data.clients import Client
from tfasr.federated.accounting import Account
from tfasr.federated.population import Drawn
from tfasr.federated.round_log import RoundLog, turnout

pytestmark = pytest.mark.federated

SIZES = Account(
    parameters_full=20,
    parameters_client=15,
    parameters_down=12,
    parameters_trained=10,
    bytes_down=48,
    bytes_up=44,
)


def drawn(*answers, slow=False):
    return [
        Drawn(Client(f"c{place}", Path(), 4, 2.0), place, answers=answer, steps=2, slow=slow)
        for place, answer in enumerate(answers)
    ]


def test_all_are_sent_a_model_and_those_that_answer_return_one(tmp_path):
    log = RoundLog(tmp_path)
    first = log.traffic(SIZES, drawn(True, False, True))
    assert (first["bytes_down_in_total"], first["bytes_up_in_total"]) == (3 * 48, 2 * 44)
    second = log.traffic(SIZES, drawn(True))
    assert (second["bytes_down_in_total"], second["bytes_up_in_total"]) == (4 * 48, 3 * 44)
    assert log.megabytes() == pytest.approx({"MB_down": 192e-6, "MB_up": 132e-6})
    assert (second["parameters_down"], second["parameters_trained"]) == (12, 10)


def test_totals_go_on_from_the_last_round_that_is_kept(tmp_path):
    log = RoundLog(tmp_path)
    log.write({"round": 0, "wer": 0.5})
    for number in (1, 2, 3):
        log.write({"round": number, **log.traffic(SIZES, drawn(True))})
    again = RoundLog(tmp_path)
    again.keep(2)
    assert [row["round"] for row in read_json_lines(log.path)] == [0, 1, 2]
    assert again.traffic(SIZES, drawn(True))["bytes_down_in_total"] == 3 * 48


def test_a_run_that_begins_again_has_sent_nothing(tmp_path):
    log = RoundLog(tmp_path)
    log.write({"round": 1, **log.traffic(SIZES, drawn(True))})
    log.keep(-1)
    assert log.totals == {"bytes_down_in_total": 0, "bytes_up_in_total": 0}
    assert read_json_lines(log.path) == []


def test_numbers_go_to_tensorboard_under_their_rounds(tmp_path):
    log = RoundLog(tmp_path)
    log.write({"round": 3, "clients": ["ada"], "loss": 2.5})
    [file] = (tmp_path / "tensorboard").iterdir()
    events = [event for event in tf.compat.v1.train.summary_iterator(str(file)) if event.step]
    shown = [
        (e.step, v.tag, float(tf.make_ndarray(v.tensor))) for e in events for v in e.summary.value
    ]
    assert shown == [(3, "loss", 2.5)]


def test_a_round_tells_who_was_drawn_who_was_lost_and_who_was_slow():
    assert turnout([*drawn(True, False), *drawn(True, slow=True)]) == {
        "clients": ["c0", "c1", "c0"],
        "dropped_out": ["c1"],
        "stragglers": ["c0"],
        "steps": 4,
    }
