from pathlib import Path

import pytest

from tfasr.audio.common_voice import CommonVoice
from tfasr.audio.corpora import open_corpus
from tfasr.audio.csj import Csj
from tfasr.audio.fsdd import Fsdd
from tfasr.audio.kaldi import Kaldi
from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.manifest import Manifest
from tfasr.audio.splits import Divided
from tfasr.audio.synthetic import Synthetic
from tfasr.configs.audio import AudioConfig
from tfasr.configs.corpora import ManifestConfig, SplitConfig
from tfasr.configs.features import FbankConfig
from tfasr.configs.prepare import PrepareConfig


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("librispeech", LibriSpeech),
        ("kaldi", Kaldi),
        ("csj", Csj),
        ("common_voice", CommonVoice),
        ("manifest", Manifest),
    ],
)
def test_each_name_opens_its_own_corpus_and_divides_it(name, kind):
    splits = SplitConfig(by="hash", valid_share=0.1)
    config = PrepareConfig(corpus=name, source=Path("x"), out=Path("y"), splits=splits)
    divided = open_corpus(config)
    assert isinstance(divided, Divided)
    assert type(divided.corpus) is kind
    assert divided.config == splits


@pytest.mark.parametrize(("name", "kind"), [("fsdd", Fsdd), ("synthetic", Synthetic)])
def test_a_corpus_that_makes_its_utterances_makes_its_splits(name, kind):
    config = PrepareConfig(corpus=name, source=Path("x"), out=Path("y"))
    assert type(open_corpus(config)) is kind


def test_settings_of_a_corpus_and_of_its_audio_reach_it():
    config = PrepareConfig(
        corpus="manifest",
        source=Path("x"),
        out=Path("y"),
        manifest=ManifestConfig(root=Path("z")),
        audio=AudioConfig(channel="left"),
        fbank=FbankConfig(sample_rate=8000),
    )
    manifest = open_corpus(config).corpus
    assert manifest.config.root == Path("z")
    assert (manifest.reader.sample_rate, manifest.reader.settings.channel) == (8000, "left")


@pytest.mark.parametrize("name", ["librispeech", "kaldi", "csj", "common_voice"])
def test_subsets_reach_the_corpus(name, tmp_path):
    for file in ("train/wav.scp", "train/text", "train.tsv", "clips/1.mp3"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    config = PrepareConfig(corpus=name, source=tmp_path, out=Path("y"), subsets=("dev-clean",))
    with pytest.raises(ValueError, match="dev-clean"):
        open_corpus(config).utterances()
