"""How fast is the filterbank beside kaldi-native-fbank, and how close?

Both work on the same audio in one process, in turn, so that a change of the machine's speed
meets both. `python -m benchmarks.features [--json]`
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import kaldi_native_fbank
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.features import FbankConfig
from tfasr.configs.seeds import counted_generator
from tfasr.features.fbank import INT16_SCALE, fbank

_SECONDS = 60
_REPEATS = 7


def main() -> None:
    """Measures, prints the table and, if asked, the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    config = FbankConfig()
    generator = counted_generator(0, "benchmarks.features")
    audio = (0.1 * generator.normal(size=_SECONDS * config.sample_rate)).astype(np.float32)
    ours = tf.function(lambda waveform: fbank(waveform[None], config)[0])
    difference = float(np.max(np.abs(ours(audio).numpy() - _kaldi(audio, config))))
    ours_seconds, kaldi_seconds = [], []
    for _ in range(_REPEATS):
        ours_seconds.append(_seconds(lambda: ours(audio).numpy()))
        kaldi_seconds.append(_seconds(lambda: _kaldi(audio, config)))
    ratios = [k / o for k, o in zip(kaldi_seconds, ours_seconds, strict=True)]
    print(f"ours                 {_SECONDS / median(ours_seconds):8.0f} times real time")
    print(f"kaldi-native-fbank   {_SECONDS / median(kaldi_seconds):8.0f} times real time")
    print(f"ratio, pair by pair  {median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"largest difference   {difference:8.1e}")
    if arguments.json:
        figures = {"fbank_vs_kaldi_native": median(ratios), "fbank_max_difference": difference}
        print(json.dumps(figures))


def _kaldi(audio: NDArray[np.float32], config: FbankConfig) -> NDArray[np.float32]:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = config.sample_rate
    options.mel_opts.num_bins = config.num_mels
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(config.sample_rate, (audio * INT16_SCALE).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
