"""`tfasr lm`: an n-gram language model of prepared data or of a text file."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfasr.artifacts.files import read_json, sha256_of, write_json
from tfasr.configs.language_model import LanguageModelConfig
from tfasr.data.prepared import PreparedData
from tfasr.decoding.ngram import NgramModel, perplexity
from tfasr.text.arpa import arpa_words
from tfasr.text.kneser_ney import train_arpa
from tfasr.text.normalizer import normalise
from tfasr.text.tokenizer import Tokenizer

# From a normalised sentence to the words of the language model.
Cutter = Callable[[str], list[str]]


def run(config: LanguageModelConfig) -> None:
    """Trains a language model and prints its orders, or says that it is there."""
    data = PreparedData(config.source) if config.source.is_dir() else None
    tokenizer = _tokenizer(config, data)
    settings = _settings(config, data, tokenizer)
    about = config.out.with_name(f"{config.out.name}.json")
    if config.out.exists():
        _refuse_another(config.out, about, settings)
        print(f"{config.out}: already trained")
    else:
        # First, so that a model that is there is always one whose making is known.
        write_json(about, {"settings": settings})
        figures = _train(config, data, tokenizer)
        write_json(about, {"settings": settings, **figures})
    _tell(read_json(about), config.unit)


def _tokenizer(config: LanguageModelConfig, data: PreparedData | None) -> Path | None:
    if config.unit == "word":
        return None
    if config.tokenizer is not None:
        return config.tokenizer
    if data is None:
        raise ValueError(
            f"{config.source}: is no folder made by `tfasr prepare`, so unit=token needs a "
            "--tokenizer, such as a run's tokenizer.model"
        )
    return data.tokenizer


def _settings(
    config: LanguageModelConfig, data: PreparedData | None, tokenizer: Path | None
) -> dict[str, Any]:
    """What decides what the model becomes, wherever its files lie."""
    source = config.source if data is None else data.folder / "train.jsonl"
    for file in (source, *([tokenizer] if tokenizer else [])):
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
    return {
        "unit": config.unit,
        "order": config.order,
        "prune": list(config.prune),
        "source": sha256_of(source),
        "tokenizer": sha256_of(tokenizer) if tokenizer else "",
    }


def _refuse_another(out: Path, about: Path, settings: dict[str, Any]) -> None:
    if not about.is_file():
        raise ValueError(
            f"{out}: is there, but not made by `tfasr lm`, for there is no {about.name}; "
            "choose another --out"
        )
    before = read_json(about)["settings"]
    for name, value in settings.items():
        if before.get(name) != value:
            raise ValueError(
                f"{out}: holds a language model of other settings; got {name}={value}, there it "
                f"is {before.get(name)}. Choose another --out or remove the file"
            )


def _train(
    config: LanguageModelConfig, data: PreparedData | None, tokenizer: Path | None
) -> dict[str, Any]:
    words: list[str] = []
    cut: Cutter = str.split
    if tokenizer is not None:
        model = Tokenizer(tokenizer)
        words = arpa_words(model.pieces)
        cut = _token_cutter(model, words)
    texts = _lines(config.source) if data is None else iter(_transcripts(data, "train"))
    try:
        orders = train_arpa(
            (cut(text) for text in texts),
            config.order,
            config.out,
            prune=config.prune,
            vocabulary=words,
        )
    except ValueError as error:
        if str(error).startswith(str(config.source)):
            raise
        raise ValueError(f"{config.source}: {error}") from None
    figures: dict[str, Any] = {"orders": [asdict(order) for order in orders]}
    valid = _transcripts(data, "valid") if data is not None else []
    if valid:
        sentences = [cut(text) for text in valid]
        figures["valid_perplexity"] = perplexity(NgramModel.load(config.out), sentences)
        figures["valid_sentences"] = len(sentences)
    return figures


def _token_cutter(model: Tokenizer, words: list[str]) -> Cutter:
    return lambda text: [words[token] for token in model.encode(text)]


def _transcripts(data: PreparedData, split: Any) -> list[str]:
    """Texts of a split without those of withheld domains, which are not to be trained on."""
    rows = data.manifest(split)
    return [row["text"] for row in rows if row["domain"] not in data.withheld_domains]


def _lines(path: Path) -> Iterator[str]:
    """Normalised lines of a text file, compressed or not."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                yield normalise(_decoded(line, path, number))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the .gz file is damaged; {error}") from None


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{number}: must be UTF-8; {error}") from None


def _tell(about: dict[str, Any], unit: str) -> None:
    if "orders" not in about:
        return
    print(f"{'order':>5}  {'n-grams':>10}  {'kept':>10}  discounts")
    for row in about["orders"]:
        discounts = " ".join(f"{value:.3f}" for value in row["discounts"])
        fallback = "  by default, as the text gives none" if row["fallback"] else ""
        print(f"{row['order']:>5}  {row['seen']:>10,}  {row['kept']:>10,}  {discounts}{fallback}")
    if "valid_perplexity" in about:
        print(
            f"perplexity {about['valid_perplexity']:.2f} a {unit} and end, on "
            f"{about['valid_sentences']} validation sentences"
        )
