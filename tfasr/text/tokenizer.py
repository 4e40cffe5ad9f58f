"""SentencePiece: text to token ids."""

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from tfasr.artifacts.files import atomic_path
from tfasr.configs.corpora import TokenizerConfig

UNKNOWN = 0


def train_tokenizer(texts: Sequence[str], config: TokenizerConfig, path: Path) -> None:
    """Trains a SentencePiece model on normalised text and writes it whole or not at all.

    Args:
        texts: Normalised transcripts.
        config: Kind and size.
        path: The model file.

    Raises:
        ValueError: There is no text, or SentencePiece cannot make that many pieces of it.
    """
    if not any(texts):
        raise ValueError(
            f"a tokenizer needs training text; got {len(texts)} transcripts, all empty"
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocabulary,
            hard_vocab_limit=config.kind == "bpe",
            use_all_vocab=config.kind == "char",
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            unk_id=UNKNOWN,
            num_threads=1,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise ValueError(
            f"SentencePiece must be able to make tokenizer.vocabulary={config.vocabulary} "
            f"{config.kind} pieces of {len(texts)} transcripts; it says: {error}"
        ) from None
    with atomic_path(path) as staged:
        staged.write_bytes(model.getvalue())


def copy_tokenizer(model: Path, path: Path) -> None:
    """Copies a SentencePiece model, whole or not at all.

    Raises:
        ValueError: `model` is missing or no such model.
    """
    Tokenizer(model)
    with atomic_path(path) as staged:
        shutil.copyfile(model, staged)


class Tokenizer:
    """Token ids of text, and the pieces that they stand for.

    Args:
        path: A SentencePiece model.

    Raises:
        ValueError: The file is missing or no such model.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no such tokenizer")
        model = path.read_bytes()
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError:
            model = b""
        if not model:
            raise ValueError(f"{path}: must be a SentencePiece model")

    @property
    def vocabulary(self) -> int:
        """Pieces V."""
        return int(self._model.vocab_size())

    @property
    def pieces(self) -> list[str]:
        """The surface of each piece; a leading "▁" stands for a space."""
        surfaces = [str(self._model.id_to_piece(index)) for index in range(self.vocabulary)]
        surfaces[UNKNOWN] = " \N{DOUBLE QUESTION MARK} "
        return surfaces

    def encode(self, text: str) -> list[int]:
        """Token ids of normalised text."""
        return [int(index) for index in self._model.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids."""
        return str(self._model.decode(list(tokens)))
