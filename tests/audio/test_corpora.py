from pathlib import Path

import pytest

from tfasr.audio.corpora import open_corpus
from tfasr.audio.fsdd import Fsdd
from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.manifest import Manifest
from tfasr.audio.synthetic import Synthetic
from tfasr.configs.prepare import PrepareConfig


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("librispeech", LibriSpeech),
        ("fsdd", Fsdd),
        ("manifest", Manifest),
        ("synthetic", Synthetic),
    ],
)
def test_each_name_opens_its_own_corpus(name, kind):
    config = PrepareConfig(corpus=name, source=Path("x"), out=Path("y"))
    assert type(open_corpus(config)) is kind
