"""`tfasr transcribe`: audio files to text, by an exported model or by a server."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tfasr.configs.serving import TranscribeConfig
from tfasr.serving.client import ServerError, transcribe_url

AUDIO_SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .sph .w64 .wav".split()
)

Transcribe = Callable[[list[bytes]], list[str]]


def run(config: TranscribeConfig) -> None:
    """Prints `file<TAB>text` for each file.

    A file that can't be transcribed gives its reason on the standard error, and the others
    are done all the same.

    Raises:
        ValueError: The model can't be loaded, or the server doesn't answer.
        SystemExit: With 1 in the end, where a file could not be transcribed.
    """
    transcribe = _transcriber(config)
    failures = 0
    for path in _audio_files(config.files):
        try:
            print(f"{path}\t{_text_of(path, transcribe)}", flush=True)
        except ServerError as error:
            raise ValueError(str(error)) from None
        except ValueError as error:
            failures += 1
            print(f"{path}: {error}", file=sys.stderr, flush=True)
    if failures:
        raise SystemExit(1)


def _transcriber(config: TranscribeConfig) -> Transcribe:
    if config.model is None:
        return lambda audio: transcribe_url(config.url, audio)
    # TensorFlow takes seconds to import, and a server's client has no need of it.
    from tfasr.serving.runtime import ServedModel

    return ServedModel(config.model, max_seconds=config.max_seconds).transcribe


def _audio_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        audio = sorted(file for file in files if file.suffix.lower() in AUDIO_SUFFIXES)
        yield from audio or [path]


def _text_of(path: Path, transcribe: Transcribe) -> str:
    if path.is_dir():
        raise ValueError("must hold audio files; it holds none")
    try:
        audio = path.read_bytes()
    except OSError as error:
        raise ValueError(f"must be a file that can be read; {error.strerror}") from None
    try:
        [text] = transcribe([audio])
    except ValueError as error:
        # The one file of a request is its first instance.
        raise ValueError(str(error).removeprefix("instance 0: ")) from None
    return text
