"""How much faster is a layer study than as many whole evaluations?

A Conformer (S) of 16 blocks with random weights hears noise; each block in turn is given fresh
weights and every batch transcribed. The naive loop does so with the whole model; the study keeps
what blocks below the reset one gave. Both hold the features in memory and have their graphs
traced before the clock starts; what tracing takes is told. They take turns, and must agree on
every error.
`python -m benchmarks.study [--seconds 120] [--json]`
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.presets import PRESETS
from tfasr.configs.seeds import counted_generator
from tfasr.evaluation.error_rates import count_word_errors
from tfasr.evaluation.transcription import model_transcriber, transcribe_batches
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.study.reset import ResetStudy
from tfasr.study.resets import each_block

BETTER = {"speedup_vs_naive": "higher"}

_SEED = 0
_DRAW = 1
_UTTERANCE_SECONDS = 10.0
_BATCH = 4

Errors = list[NDArray[np.int64]]
Batch = dict[str, tf.Tensor]


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="audio to evaluate on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    config = PRESETS["conformer_s"]
    batches = _batches(config.num_mels, arguments.seconds)
    pieces = [f"\u2581{number}" for number in range(config.vocabulary)]
    naive, naive_start = _timed(lambda: _naive(_model(config), pieces, batches))
    study, study_start = _timed(lambda: _study(_model(config), pieces, batches))
    seconds: dict[str, list[float]] = {"naive": [], "study": []}
    for _ in range(arguments.repeats):
        expected, taken = _timed(naive)
        seconds["naive"].append(taken)
        found, taken = _timed(study)
        seconds["study"].append(taken)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    ratios = [a / b for a, b in zip(seconds["naive"], seconds["study"], strict=True)]
    print("            seconds   to start")
    for name, start in (("naive", naive_start), ("study", study_start)):
        print(f"{name:8}{median(seconds[name]):11.1f}{start:11.1f}")
    print(f"the study is {median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})")
    if arguments.json:
        print(json.dumps({"speedup_vs_naive": median(ratios)}))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    outcome = work()
    return outcome, time.perf_counter() - started


def _model(config: Any) -> AcousticModel:
    model = build_model(config)
    initialize(Layout(model), _SEED)
    # A head this loud makes the random model babble, and its errors differ from reset to reset.
    model.head.kernel.assign(10 * model.head.kernel)
    return model


def _batches(num_mels: int, seconds: float) -> list[Batch]:
    generator = counted_generator(_SEED, "benchmark")
    frames = int(100 * _UTTERANCE_SECONDS)
    count = max(round(seconds / (_UTTERANCE_SECONDS * _BATCH)), 1)
    return [
        {
            "features": tf.constant(
                generator.standard_normal((_BATCH, frames, num_mels)), tf.float32
            ),
            "num_frames": tf.fill([_BATCH], frames),
            "text": tf.fill([_BATCH], " ".join(map(str, range(20)))),
            **{name: tf.fill([_BATCH], "") for name in ("id", "speaker", "domain")},
        }
        for _ in range(count)
    ]


def _naive(
    model: AcousticModel, pieces: Sequence[str], batches: Sequence[Batch]
) -> Callable[[], Errors]:
    transcribe, layout = model_transcriber(model, pieces), Layout(model)
    transcribe_batches(transcribe, batches[:1])

    def evaluate_each() -> Errors:
        found = []
        for reset in each_block(layout):
            entries = reset.entries(layout)
            trained = [entry.variable.numpy() for entry in entries]
            initialize(entries, _SEED, _DRAW)
            heard = transcribe_batches(transcribe, batches)
            counts = count_word_errors([h.reference for h in heard], [h.text for h in heard])
            found.append(counts.errors)
            for entry, value in zip(entries, trained, strict=True):
                entry.variable.assign(value)
        return found

    return evaluate_each


def _study(
    model: AcousticModel, pieces: Sequence[str], batches: Sequence[Batch]
) -> Callable[[], Errors]:
    study = ResetStudy(model, pieces, _SEED, batches)
    study.intact_errors()
    return lambda: [study.errors(reset, _DRAW) for reset in each_block(study.layout)]


if __name__ == "__main__":
    main()
