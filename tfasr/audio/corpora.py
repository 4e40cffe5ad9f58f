"""From the settings of a preparation to its corpus."""

from pathlib import Path

from tfasr.audio.fsdd import Fsdd
from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.manifest import Manifest
from tfasr.audio.synthetic import Synthetic
from tfasr.audio.utterance import Corpus
from tfasr.configs.prepare import PrepareConfig


def open_corpus(config: PrepareConfig) -> Corpus:
    """Makes the corpus that is to be prepared; reads no file yet."""
    rate, source = config.fbank.sample_rate, config.source or Path()
    match config.corpus:
        case "librispeech":
            return LibriSpeech(config.librispeech, source, rate)
        case "fsdd":
            return Fsdd(config.fsdd, source, rate)
        case "manifest":
            return Manifest(source, rate)
        case "synthetic":
            return Synthetic(config.synthetic)
