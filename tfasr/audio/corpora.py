"""From the settings of a preparation to its corpus."""

from pathlib import Path

from tfasr.audio.common_voice import CommonVoice
from tfasr.audio.csj import Csj
from tfasr.audio.fsdd import Fsdd
from tfasr.audio.kaldi import Kaldi
from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.manifest import Manifest
from tfasr.audio.reading import AudioReader
from tfasr.audio.splits import Divided
from tfasr.audio.synthetic import Synthetic
from tfasr.audio.utterance import Corpus
from tfasr.configs.prepare import PrepareConfig


def open_corpus(config: PrepareConfig) -> Corpus:
    """Makes the corpus that is to be prepared, divided as it is to be; reads no file yet."""
    source, subsets = config.source or Path(), config.subsets
    reader = AudioReader(sample_rate=config.fbank.sample_rate, settings=config.audio)
    corpus: Corpus
    match config.corpus:
        case "synthetic":
            return Synthetic(config.synthetic)
        case "fsdd":
            return Fsdd(config.fsdd, source, reader)
        case "librispeech":
            corpus = LibriSpeech(subsets, source, reader)
        case "kaldi":
            corpus = Kaldi(config.kaldi, subsets, source, reader)
        case "csj":
            corpus = Csj(config.kaldi, subsets, source, reader)
        case "common_voice":
            corpus = CommonVoice(subsets, source, reader)
        case "manifest":
            corpus = Manifest(config.manifest, source, reader)
    return Divided(corpus, config.splits)
