"""How fast is the filterbank beside kaldi-native-fbank, and how close?

Both work on the same audio in one process, in turn, so that a change of the machine's speed
meets both. There are two such processes, one that leaves TensorFlow all cores and one that
leaves it a single thread; kaldi-native-fbank has one thread of its own in either.
`python -m benchmarks.features [--json]`
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import kaldi_native_fbank
import numpy as np
import soundfile
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tfasr.configs.features import FbankConfig
from tfasr.configs.seeds import counted_generator
from tfasr.features.fbank import INT16_SCALE, fbank, mel_weights

BETTER = {"fbank_vs_kaldi_native": "higher", "fbank_vs_kaldi_native_one_thread": "higher"}

_SECONDS = 60
_REPEATS = 7
_UTTERANCE = 20  # Seconds of the longest utterance that training takes by default.
_LIBRISPEECH = Path(__file__).resolve().parents[2] / "shared" / "data" / "LibriSpeech"


@dataclass(frozen=True)
class _Times:
    """Seconds that either needed for the noise, pair by pair."""

    ours: list[float]
    kaldi: list[float]

    @property
    def ratios(self) -> list[float]:
        return [kaldi / ours for kaldi, ours in zip(self.kaldi, self.ours, strict=True)]


def main() -> None:
    """Measures, prints the tables and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    figures = {
        "fbank_vs_kaldi_native": _compare_speed(cores),
        "fbank_vs_kaldi_native_one_thread": _compare_speed(1),
        **_compare_values(),
    }
    if arguments.json:
        print(json.dumps(figures))


def _compare_speed(num_threads: int) -> float:
    # TensorFlow takes its threads once, before its first operation.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        times = process.submit(_time, num_threads).result()
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    print(f"ours, {threads:9s}      {_SECONDS / median(times.ours):6.0f} times real time")
    print(f"kaldi-native-fbank   {_SECONDS / median(times.kaldi):6.0f} times real time")
    ratios = times.ratios
    print(f"ratio, pair by pair  {median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})\n")
    return median(ratios)


def _time(num_threads: int) -> _Times:
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    tf.config.threading.set_inter_op_parallelism_threads(num_threads)
    config, audio = FbankConfig(), _noise()
    ours = tf.function(lambda waveform: fbank(waveform[None], config)[0])
    ours(audio)
    times = _Times([], [])
    for _ in range(_REPEATS):
        times.ours.append(_seconds(lambda: ours(audio).numpy()))
        times.kaldi.append(_seconds(lambda: _kaldi(audio, config)))
    return times


def _compare_values() -> dict[str, float]:
    config = FbankConfig()
    audio = {"noise": _noise(), "like speech": _like_speech(), **_librispeech()}
    rows = {}
    print("largest difference    ours to Kaldi   ours to float64   Kaldi to float64")
    for name, whole in audio.items():
        waveform = whole[: _UTTERANCE * config.sample_rate]
        ours, kaldi = fbank(waveform[None], config)[0].numpy(), _kaldi(waveform, config)
        exact = _float64(waveform, config)
        pairs = [(ours, kaldi), (ours, exact), (kaldi, exact)]
        rows[name] = [float(np.max(np.abs(a - b))) for a, b in pairs]
        print(f"{name:18s} {rows[name][0]:16.1e} {rows[name][1]:17.1e} {rows[name][2]:18.1e}")
    # Recorded speech stands apart: there Kaldi's own rounding is most of the difference.
    recorded = rows.pop("LibriSpeech", None)
    keys = ["fbank_max_difference", "fbank_max_error", "kaldi_native_max_error"]
    figures = dict(zip(keys, map(max, zip(*rows.values(), strict=True)), strict=True))
    if recorded:
        figures |= {f"{key}_librispeech": v for key, v in zip(keys, recorded, strict=True)}
    return figures


def _noise() -> NDArray[np.float32]:
    generator = counted_generator(0, "benchmarks.features")
    return (0.1 * generator.normal(size=_SECONDS * FbankConfig().sample_rate)).astype(np.float32)


def _like_speech() -> NDArray[np.float32]:
    """Half-second syllables: harmonics of a gliding pitch, hisses and silence, in a room."""
    rate = FbankConfig().sample_rate
    generator = counted_generator(0, "benchmarks.features", "like speech")
    seconds = np.arange(rate // 2) / rate
    parts = []
    for _ in range(_SECONDS // 2):
        pitch = generator.uniform(90, 250) * (1 + 0.2 * seconds)
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        voiced = sum(np.sin(order * phase) / order for order in range(1, 25))
        swell = np.sin(np.pi * seconds / seconds[-1]) ** 2
        parts += [0.2 * swell * voiced, 0.05 * swell * generator.normal(size=swell.size)]
        parts += [0 * swell, 0 * swell]
    speech = np.concatenate(parts)
    speech += 0.003 * generator.normal(size=speech.size)
    return np.asarray(np.round(speech * INT16_SCALE) / INT16_SCALE, np.float32)


def _librispeech() -> dict[str, NDArray[np.float32]]:
    """The first utterance, where there is one."""
    for path in sorted(_LIBRISPEECH.glob("*/*/*/*.flac"))[:1]:
        return {"LibriSpeech": soundfile.read(path, dtype="float32")[0]}
    return {}


def _kaldi(audio: NDArray[np.float32], config: FbankConfig) -> NDArray[np.float32]:
    """As its users call it: it takes a list, sooner than an array, and gives frame by frame."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = config.sample_rate
    options.mel_opts.num_bins = config.num_mels
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(config.sample_rate, (audio * INT16_SCALE).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def _float64(audio: NDArray[np.float32], config: FbankConfig) -> NDArray[np.float64]:
    length, shift = config.frame_length, config.frame_shift
    frames = sliding_window_view(audio.astype(np.float64) * INT16_SCALE, length)[::shift]
    frames = frames - frames.mean(1, keepdims=True)
    frames[:, 1:] -= config.preemphasis * frames[:, :-1]
    # The window is zero at a frame's first sample, the only one without one before it.
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    spectrum = np.fft.rfft(frames * hann**0.85, 1 << (length - 1).bit_length())[:, :-1]
    return np.asarray(np.log(np.maximum(np.abs(spectrum) ** 2 @ mel_weights(config), 2.0**-23)))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
