"""How fast is the input pipeline, how much does it pad, and does training wait for it?

Works on a folder in LibriSpeech's layout; where there is none, on noise of the same lengths.
`python -m benchmarks.input [--source LibriSpeech] [--json]`
"""

import argparse
import gzip
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.artifacts.files import read_json_lines
from tfasr.configs.corpora import TokenizerConfig
from tfasr.configs.data import BatchConfig, Reading
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.prepare import PrepareConfig
from tfasr.configs.presets import CONFORMER_S
from tfasr.configs.seeds import counted_generator
from tfasr.configs.training import TrainConfig
from tfasr.data.batches import make_buckets
from tfasr.data.pipelines import TrainingPipeline
from tfasr.data.prepared import PreparedData
from tfasr.data.recording_source import RecordingSource
from tfasr.data.sources import ShardSource
from tfasr.features.extractor import FeatureExtractor
from tfasr.preparation.preparation import Preparation
from tfasr.training.loop import Trainer
from tfasr.training.run import Run

BETTER = {
    "flac_realtime": "higher",
    "tfrecord_realtime": "higher",
    "padding_share": "lower",
    "input_wait_share": "lower",
}

_REPEATS = 5
_COPIES = 8  # Of the half hour that there may be: an epoch has four hours.
_STEPS = 20  # Of training; the first half warms up.
_RATE = 16000
_BATCHING = BatchConfig(batch_seconds=60.0, max_seconds=25.0)
_AUGMENTATION = AugmentConfig()
_LONGEST = 24.5  # Of LibriSpeech's train-clean-100, in seconds; its mean is 12.7 s.


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/LibriSpeech"))
    parser.add_argument(
        "--transcripts", type=Path, default=Path("../shared/data/text/train-clean-100.txt.gz")
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    tf.config.experimental.enable_op_determinism()
    with tempfile.TemporaryDirectory() as work:
        source = arguments.source
        if not source.is_dir():
            source = _made_up(Path(work) / "corpus")
        data = _prepared(source, Path(work) / "data")
        flac, shards = _pipeline(data, "recordings"), _pipeline(data, "shards")
        # In turn, so that a change of the machine's speed meets both.
        pairs = [(_realtime(flac, n), _realtime(shards, n)) for n in range(_REPEATS)]
        growth = _growth(shards)
        waiting = _waiting(data, shards, Path(work) / "run")
        padding = _padding_share(_seconds(data, arguments.transcripts))
    from_flac, from_shards = ([pair[place] for pair in pairs] for place in (0, 1))
    print(f"FLAC to batches       {_spread(from_flac)} times real time")
    print(f"TFRecord to batches   {_spread(from_shards)} times real time")
    print(f"padding               {100 * padding:7.1f} % of the batches' audio")
    print(f"memory over an epoch  {growth:+7.0f} MB")
    print(f"training waits        {100 * waiting:7.2f} % of its time (conformer_s, 60 s a batch)")
    if arguments.json:
        figures = {
            "flac_realtime": median(from_flac),
            "tfrecord_realtime": median(from_shards),
            "padding_share": padding,
            "memory_growth_megabytes": growth,
            "input_wait_share": waiting,
        }
        print(json.dumps(figures))


def _made_up(folder: Path) -> Path:
    chapter = folder / "train-clean-100" / "1" / "1"
    chapter.mkdir(parents=True)
    lines = []
    for number, seconds in enumerate(_typical_seconds(150)):
        noise = counted_generator(0, "noise", number).normal(size=int(seconds * _RATE)) / 20
        soundfile.write(chapter / f"1-1-{number:04d}.flac", noise, _RATE, subtype="PCM_16")
        lines.append(f"1-1-{number:04d} {' '.join(['speech'] * int(2 * seconds))}\n")
    (chapter / "1-1.trans.txt").write_text("".join(lines))
    return folder


def _typical_seconds(count: int) -> NDArray[np.float64]:
    """Most near 15, and a flat tail of shorter ones, as LibriSpeech's."""
    generator = counted_generator(0, "benchmarks.input")
    long, short = generator.normal(14.5, 1.2, count), generator.uniform(1.5, 14.0, count)
    return np.clip(np.where(generator.random(count) < 0.7, long, short), 1.4, _LONGEST)


def _prepared(source: Path, out: Path) -> PreparedData:
    config = PrepareConfig(
        corpus="librispeech",
        source=source,
        subsets=("train-clean-100",),
        out=out,
        tokenizer=TokenizerConfig(kind="char"),
    )
    Preparation(config).run(lambda done, total: None)
    return PreparedData(out)


def _pipeline(data: PreparedData, reading: Reading) -> TrainingPipeline:
    source = data.source("train", reading)
    if isinstance(source, ShardSource):
        source = replace(source, files=[*source.files] * _COPIES)
    elif isinstance(source, RecordingSource):
        rows, tokens = [*source.rows] * _COPIES, [*source.tokens] * _COPIES
        source = replace(source, rows=rows, tokens=tokens)
    return TrainingPipeline(
        source=source,
        domains=(),
        buckets=make_buckets(data.durations("train"), _BATCHING, _AUGMENTATION.speeds),
        batching=_BATCHING,
        extractor=FeatureExtractor(data.fbank, data.statistics),
        augmentation=_AUGMENTATION,
        masking=SpecAugmentConfig(),
        seed=0,
    )


def _realtime(pipeline: TrainingPipeline, epoch: int) -> float:
    """Seconds of speech that come out of an epoch in a second, its start included."""
    frames, started = 0, time.perf_counter()
    for batch in pipeline.epoch(epoch):
        frames += int(tf.reduce_sum(batch["num_frames"]))
    shift = pipeline.extractor.fbank.frame_shift_ms / 1000
    return frames * shift / (time.perf_counter() - started)


def _growth(pipeline: TrainingPipeline) -> float:
    """Megabytes that the process gains over a second epoch."""
    _realtime(pipeline, 0)
    before = _resident()
    _realtime(pipeline, 1)
    return (_resident() - before) / 1e6


def _resident() -> int:
    kilobytes = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]
    return 1024 * int(kilobytes)


def _waiting(data: PreparedData, pipeline: TrainingPipeline, run: Path) -> float:
    """Share of the time that steps of the second half of a short training wait for input."""
    config = TrainConfig(
        data=data.folder, run=run, model=CONFORMER_S, batching=_BATCHING, steps=_STEPS,
        valid_every=_STEPS, checkpoint_every=_STEPS // 2,
    )  # fmt: skip
    folder = Run.create(config, data)
    Trainer(folder, pipeline, config, lambda model: {"wer": 1.0}).train(
        lambda done, total, **figures: None
    )
    rows = read_json_lines(run / "metrics.jsonl")
    return float([row for row in rows if "input_wait_share" in row][-1]["input_wait_share"])


def _seconds(data: PreparedData, transcripts: Path) -> NDArray[np.float64]:
    """Lengths of train-clean-100: its transcripts, read as fast as the recordings at hand."""
    if not transcripts.is_file():
        return _typical_seconds(28_539)
    rows = data.manifest("train")
    pace = np.array([row["duration"] / len(row["text"]) for row in rows])
    with gzip.open(transcripts, "rt", encoding="utf-8") as lines:
        letters = np.array([len(line.strip()) for line in lines])
    drawn = counted_generator(0, "pace").choice(pace, len(letters))
    seconds: NDArray[np.float64] = np.clip(letters * drawn, 1.4, _LONGEST)
    return seconds


def _padding_share(seconds: NDArray[np.float64]) -> float:
    """Padding up to the edges of the length classes, over all speeds, as a share of the whole."""
    buckets = make_buckets(list(seconds), _BATCHING, _AUGMENTATION.speeds)
    heard = np.concatenate([seconds / speed for speed in _AUGMENTATION.speeds])
    edges = np.array(buckets.edges)
    padded = edges[np.minimum(np.searchsorted(edges, heard), len(edges) - 1)]
    return float(1 - heard.sum() / np.maximum(padded, heard).sum())


def _spread(values: list[float]) -> str:
    return f"{median(values):7.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
