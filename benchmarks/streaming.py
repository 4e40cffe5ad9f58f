"""What does hearing a stream in chunks change, and how late, how dear and how steady is it?

Of a `streaming_conformer` with 4 blocks, 64 wide, and random weights:

- the largest difference, of encodings and log-probabilities, between steps over audio cut at
  random and the whole utterance under the same mask;
- the real-time factor: seconds of one thread for a second of audio, from samples to tokens, by
  the clock and of the processor, which hang less on what else the machine does;
- what the resident memory of an hour's stream grows by after its first twelfth, what is free given
  back before each look; and how much of that TensorFlow loses, 48 bytes of every tensor that it
  hands to Python 3.11 (tensorflow/tensorflow#62551).

Of a trained streaming model (`--run` and `--data`) the first two, and:

- the delay from a token's end, or start, to its emission. The time of emission is when the audio
  of the chunk is there; computing comes on top. Ends and starts are those of the forced alignment
  of the same model, heard whole: where it hears a token, which may be later than the sound.
  Utterances that are heard with an error are left out;
- the share of the words of partial results that are taken back. It is 0 of greedy decoding, for
  neither encodings nor tokens change once they are there; a prefix beam, searched anew after each
  chunk, may change its mind.

`--full` also times the preset `streaming_conformer`, with a CTC head for its transducer.
Linux only. `python -m benchmarks.streaming [--run RUN --data DATA] [--json]`
"""

import argparse
import ctypes
import gc
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.emission import (
    Spoken,
    Stability,
    Stream,
    aligned_utterances,
    beam_partials,
    delays_of,
    listen,
    stability,
    words_of,
)
from benchmarks.listening import Listener
from tfasr.audio.utterance import SPLITS
from tfasr.configs.features import FbankConfig
from tfasr.configs.model import ModelConfig, TransducerConfig
from tfasr.configs.presets import STREAMING_CONFORMER
from tfasr.configs.seeds import counted_generator
from tfasr.data.prepared import PreparedData
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.features.fbank import fbank
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.training.run import Run

BETTER = {"max_difference": "lower", "realtime_factor": "lower"}

_PRESET = replace(STREAMING_CONFORMER, transducer=TransducerConfig(), ctc=True)
_SMALL = replace(
    _PRESET,
    encoder=replace(
        _PRESET.encoder,
        num_blocks=4,
        dim=64,
        num_heads=4,
        stack_at=1,
        streaming=replace(_PRESET.encoder.streaming, left_context=32),
    ),
    vocabulary=64,
)
_FRAME_MS = 40
_SECONDS = 20  # Of audio, in each timing.
_LONG_CHUNK = 16  # Of the long stream, in frames.
_LOST_BYTES = 48  # Of a tensor.
_LONGEST = 8  # Seconds of an utterance that is cut at random.

# Figures by chunk.
ByChunk = dict[int, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model, and a minute or more of audio for it, [N] float32."""

    name: str
    model: AcousticModel
    extractor: FeatureExtractor
    audio: NDArray[np.float32]
    _listeners: dict[int, Listener] = field(default_factory=dict)

    @property
    def rate(self) -> int:
        return self.extractor.fbank.sample_rate

    def listener(self, chunk: int) -> Listener:
        """Gives the one listener with such chunks, its stream forgotten."""
        if chunk not in self._listeners:
            self._listeners[chunk] = Listener(self.model, self.extractor, chunk)
        self._listeners[chunk].restart()
        return self._listeners[chunk]


def main() -> None:
    """Measures, prints the tables and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a trained model that streams")
    parser.add_argument("--data", type=Path, help="prepared data, for --run")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="of --data")
    parser.add_argument(
        "--chunks",
        type=_numbers,
        default=(8, 4, 16),
        help=f"frames of {_FRAME_MS} ms, by commas; JSON's single figures are of the first",
    )
    parser.add_argument("--full", action="store_true", help="time the preset too")
    parser.add_argument("--trials", type=int, default=10, help="utterances cut, for each chunk")
    parser.add_argument("--repeats", type=int, default=5, help="of each timing")
    parser.add_argument("--minutes", type=int, default=60, help="of the long stream")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.data is None):
        parser.error("--run and --data must be given together")
    if min(arguments.trials, arguments.repeats, arguments.minutes - 1, *arguments.chunks) < 1:
        parser.error("--chunks, --trials and --repeats must be at least 1, --minutes 2")
    _use_one_thread()
    figures = _measure(arguments)
    if arguments.json:
        print(json.dumps(figures))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _use_one_thread() -> None:
    # TensorFlow takes its threads once, before its first operation.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _measure(arguments: argparse.Namespace) -> dict[str, object]:
    chunks = sorted(arguments.chunks)
    subjects, spoken = [_random_subject("small", _SMALL)], []
    if arguments.run is not None:
        run, data = Run(arguments.run), PreparedData(arguments.data)
        run.check_data(data)
        spoken = list(aligned_utterances(run, data, arguments.split))
        subjects.append(_run_subject(run, spoken))
    difference = _tell_differences(subjects, chunks, arguments.trials)
    preset = [_random_subject("preset", _PRESET)] if arguments.full else []
    factors = _tell_factors([*subjects, *preset], chunks, arguments.repeats)
    by_chunk = factors[subjects[-1].name]
    for each in preset:
        by_chunk |= {f"{each.name}_{key}": values for key, values in factors[each.name].items()}
    if spoken:
        by_chunk |= _tell_emission(subjects[-1], spoken, chunks, run.tokenizer.pieces)
    figures: dict[str, object] = {"max_difference": difference}
    for key, values in by_chunk.items():
        figures |= {key: values[arguments.chunks[0]], f"{key}_by_chunk": values}
    return {**figures, **_tell_memory(arguments.minutes)}


def _random_subject(name: str, config: ModelConfig) -> Subject:
    """A model with random weights, and noise for it."""
    model = build_model(config)
    initialize(Layout(model), 0)
    for number, weight in enumerate(model.weights):
        # Biases of zero and gains of one would hide much.
        generator = counted_generator(0, "benchmarks.streaming", "weights", number)
        weight.assign_add(0.1 * generator.standard_normal(weight.shape, np.float32))
    front_end = FbankConfig(num_mels=config.num_mels)
    generator = counted_generator(0, "benchmarks.streaming", "noise")
    audio = 0.1 * generator.standard_normal(60 * front_end.sample_rate, np.float32)
    bins = fbank(audio[None, : _SECONDS * front_end.sample_rate], front_end)[0].numpy()
    statistics = FeatureStatistics(tuple(bins.mean(0).tolist()), tuple(bins.std(0).tolist()))
    extractor = FeatureExtractor(front_end, statistics)
    return Subject(name=name, model=model, extractor=extractor, audio=audio)


def _run_subject(run: Run, spoken: Sequence[Spoken]) -> Subject:
    audio = np.concatenate([each.waveform for each in spoken])
    name = run.folder.resolve().name
    return Subject(name=name, model=run.trained_model(), extractor=run.extractor, audio=audio)


def _tell_differences(subjects: Sequence[Subject], chunks: Sequence[int], trials: int) -> float:
    print(f"largest difference from {trials} whole utterances, by chunk")
    print(f"{'':30}" + "".join(f"{_FRAME_MS * chunk:9d} ms" for chunk in chunks))
    largest = 0.0
    for subject in subjects:
        found = [
            max(_difference(subject, chunk, trial) for trial in range(trials)) for chunk in chunks
        ]
        print(f"{subject.name:30}" + "".join(f"{value:12.1e}" for value in found))
        largest = max(largest, *found)
    return largest


def _difference(subject: Subject, chunk: int, trial: int) -> float:
    draw = counted_generator(0, "benchmarks.streaming", "cut", chunk, trial)
    length = int(draw.integers(1, _LONGEST * subject.rate))
    start = int(draw.integers(0, len(subject.audio) - length))
    waveform = subject.audio[start : start + length]
    listener, heard, place = subject.listener(chunk), [], 0
    while place < length:
        # From none, each order of magnitude as often, to a second.
        size = int(subject.rate ** draw.uniform()) - 1
        heard += listener.hear(waveform[place : place + size])
        place += size
    heard += listener.finish()
    features, num_frames = subject.extractor(waveform[None], tf.constant([length]))
    encoded, _ = subject.model.encode(features, num_frames, chunk=chunk)
    real = int(subject.model.encoded_frames(num_frames)[0])
    if sum(len(each.encoded) for each in heard) != real:
        raise RuntimeError(f"the steps must give {real} frames of {length} samples, chunk={chunk}")
    wholes, steps = [encoded[0, :real].numpy()], [[each.encoded for each in heard]]
    if subject.model.head is not None:
        wholes.append(tf.nn.log_softmax(subject.model.head(encoded))[0, :real].numpy())
        steps.append([each.log_probs for each in heard])
    pairs = zip(wholes, steps, strict=True) if real else ()
    gaps = [np.max(np.abs(np.concatenate(parts) - whole)) for whole, parts in pairs]
    return float(max(gaps, default=0.0))


def _tell_factors(
    subjects: Sequence[Subject], chunks: Sequence[int], repeats: int
) -> dict[str, dict[str, ByChunk]]:
    """Real-time factors by the subjects' names and by what they are called."""
    cases = [(subject, chunk) for subject in subjects for chunk in chunks]
    for case in cases:
        _seconds(*case)  # Builds its graph.
    taken: list[list[tuple[float, float]]] = [[] for _ in cases]
    for _ in range(repeats):
        for case, times in zip(cases, taken, strict=True):
            times.append(_seconds(*case))
    print(f"\nreal-time factor of {repeats} streams of {_SECONDS} s, one thread")
    print(f"{'':30}  parameters    chunk  by the clock (least to most)   of the processor")
    keys = ("realtime_factor", "processor_factor")
    by_name: dict[str, dict[str, ByChunk]] = {each.name: {k: {} for k in keys} for each in subjects}
    for (subject, chunk), times in zip(cases, taken, strict=True):
        clock, processor = zip(*times, strict=True)
        for key, factors in zip(keys, (clock, processor), strict=True):
            by_name[subject.name][key][chunk] = median(factors)
        print(
            f"{subject.name:30}{Layout(subject.model).parameters():12,d}{_FRAME_MS * chunk:6d} ms"
            f"{median(clock):9.4f} ({min(clock):.4f} to {max(clock):.4f}){median(processor):15.4f}"
        )
    return by_name


def _seconds(subject: Subject, chunk: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor, for a second of audio."""
    audio = subject.audio[: _SECONDS * subject.rate]
    listener = subject.listener(chunk)
    pieces = np.split(audio, listener.arrivals(len(audio)))
    started, processor = time.perf_counter(), time.process_time()
    for piece in pieces:
        listener.hear(piece)
    listener.finish()
    taken = (time.perf_counter() - started, time.process_time() - processor)
    return taken[0] / (len(audio) / subject.rate), taken[1] / (len(audio) / subject.rate)


def _tell_emission(
    subject: Subject, spoken: Sequence[Spoken], chunks: Sequence[int], pieces: Sequence[str]
) -> dict[str, ByChunk]:
    """Figures of delays and of partial results, by name."""
    searches: dict[str, Callable[[Stream], list[list[int]]]] = {"greedy": Stream.greedy_partials}
    if subject.model.head is not None:
        searches["beam"] = beam_partials()
    print(f"\n{subject.name}: ms from the alignment to the emission, words taken back or not whole")
    print("   chunk  utterances  first token   90 %  from start  all tokens  partial results")
    by_name: dict[str, ByChunk] = {}
    for chunk in chunks:
        listener = subject.listener(chunk)
        streams = [listen(listener, each.waveform) for each in spoken]
        delays = delays_of(spoken, streams)
        figures = delays.figures()
        first, most, start, every = figures.values()
        told = []
        for name, partials in searches.items():
            words = sum(
                (
                    stability([words_of(tokens, pieces) for tokens in partials(stream)])
                    for stream in streams
                ),
                Stability(),
            )
            figures[f"{name}_retracted_share"] = words.retracted_share
            told.append(
                f"{name} {100 * words.retracted_share:.2f} %, {100 * words.grown_share:.2f} %"
            )
        print(
            f"{_FRAME_MS * chunk:5d} ms{len(delays.from_ends):7d}/{len(spoken):<4d}{first:13.0f}"
            f"{most:7.0f}{start:12.0f}{every:12.0f}  {'; '.join(told)} of {words.shown}"
        )
        for key, value in figures.items():
            by_name.setdefault(key, {})[chunk] = value
    return by_name


def _tell_memory(minutes: int) -> dict[str, float]:
    # A process of its own: what the rest has freed would hide growth.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        by_minute = pool.submit(_long_stream, minutes).result()
    settled = max(1, minutes // 12)
    resident, blocks = zip(*by_minute[settled - 1 :], strict=True)
    growth = max(resident) - resident[0]
    lost = (blocks[-1] - blocks[0]) * _LOST_BYTES / 2**20
    print(
        f"\nresident memory after {settled} of {minutes} minutes {resident[0]:.1f} MiB, then at "
        f"most {growth:.2f} MiB more, of which TensorFlow loses {lost:.2f} MiB"
    )
    return {"memory_growth_mib": growth, "memory_lost_by_tensorflow_mib": lost}


def _long_stream(minutes: int) -> list[tuple[float, int]]:
    """Mebibytes resident and Python's blocks of memory after each minute of a stream."""
    _use_one_thread()
    subject = _random_subject("small", _SMALL)
    listener = subject.listener(_LONG_CHUNK)
    pieces = np.split(subject.audio, range(subject.rate, len(subject.audio), subject.rate))
    by_minute = []
    for _ in range(minutes):
        for piece in pieces:
            listener.hear(piece)
        gc.collect()
        # Keeps no free memory, the amount of which goes up and down.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        by_minute.append((_resident_mebibytes(), sys.getallocatedblocks()))
    return by_minute


def _resident_mebibytes() -> float:
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


if __name__ == "__main__":
    main()
