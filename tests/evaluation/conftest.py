from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tfasr.configs.evaluation import DecodingConfig
from tfasr.configs.model import DecoderConfig, EncoderConfig, ModelConfig, TransducerConfig
from tfasr.decoding.language_model import LanguageModel
from tfasr.evaluation.search import Recogniser, Search, load_language_model
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.text.arpa import arpa_words
from tfasr.text.kneser_ney import train_arpa

PIECES = (" ? ", "▁one", "▁two", "s")
CONFIG = ModelConfig(
    encoder=EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2),
    num_mels=6,
    vocabulary=len(PIECES),
)


@pytest.fixture(scope="session")
def recogniser(noise: Callable[..., NDArray[np.float32]]) -> Callable[..., Recogniser]:
    """Makes a model that babbles, by decoders of so many blocks or by a transducer."""

    def make(
        left: int = 1, right: int = 1, units: int = 0, seed: int = 0, name: str = "run"
    ) -> Recogniser:
        decoder = DecoderConfig(
            num_blocks_left=left, num_blocks_right=right, num_heads=2, ff_units=8
        )
        transducer = TransducerConfig(units=units, embedding_dim=4, joint_dim=6)
        model = build_model(replace(CONFIG, decoder=decoder, transducer=transducer, ctc=not units))
        initialize(Layout(model), seed)
        for number, variable in enumerate(model.trainable_variables):
            values = noise(*variable.shape, seed=100 * seed + number)
            variable.assign(variable + 0.3 * values)
        output = model.joint.output_dense if units else model.head
        output.kernel.assign(2 * noise(*output.kernel.shape, seed=seed + 1))
        output.bias.assign([0.0, 0.0, 0.0, 0.0, 1.0 if units else -2.0])  # Not all blanks.
        return Recogniser(name=name, model=model, pieces=PIECES, frame_shift=0.01)

    return make


@pytest.fixture(scope="session")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that likes "one ones" and "two"."""
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    sentences = [["▁one", "▁one", "s"]] * 5 + [["▁two"]] * 3
    train_arpa(sentences, 2, path, vocabulary=arpa_words(PIECES))
    return path


@pytest.fixture(scope="session")
def search(arpa: Path) -> Callable[..., Search]:
    """Makes the search of recognisers by the options of a decoder."""

    def make(recognisers: Sequence[Recogniser], **options: Any) -> Search:
        config = DecodingConfig(**options)
        model: LanguageModel = load_language_model(config.lm, PIECES)
        return Search(recognisers=recognisers, config=config, language_model=model, max_tokens=6)

    return make
