"""`tfasr transcribe`: audio to text, by an exported model or by a server."""

import gc
import importlib
import io
import json
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import soundfile

from tfasr.artifacts.files import write_text
from tfasr.audio.decoding import open_recording, open_recording_bytes, wav_bytes
from tfasr.audio.pauses import parts_at_pauses
from tfasr.configs.serving import TranscribeConfig
from tfasr.serving.errors import ServerError
from tfasr.serving.token import read_token
from tfasr.serving.transcripts import Transcript, joined, transcript_of, write_transcript

AUDIO_SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .sph .w64 .wav".split()
)
STDIN = Path("-")
# Heard at once of a model that does not tell the longest utterance that it was trained on.
_UNTOLD_SECONDS = 30.0

# By how much a recording may be longer than that and still be heard whole: a cut costs more.
_WHOLE = 2.0

Transcribe = Callable[[bytes], Transcript]
Heard = Callable[[], Transcript]


class Limits(NamedTuple):
    """How much is heard at once.

    Args:
        whole: Seconds up to which a recording is not parted.
        part: Longest part of one that is, in seconds.
    """

    whole: float
    part: float


def run(config: TranscribeConfig) -> None:
    """Prints or writes the transcript of each file, in their order.

    A file that can't be transcribed gives its reason on the standard error, and the others
    are done all the same.

    Raises:
        ValueError: The model can't be loaded, or the server doesn't answer.
        SystemExit: With 1 in the end, where a file could not be transcribed.
    """
    files = _audio_files(config)
    parallel = config.parallel or _parallel([path for path, _ in files])
    transcribe, limits = _transcriber(config, parallel)
    written: set[Path] = set()
    failures = 0
    begun: deque[tuple[Path, Path, Heard]] = deque()
    with Hearing(transcribe, parallel) as hearing:
        for number, (path, name) in enumerate(files):
            begun.append((path, name, _begin(path, hearing, limits)))
            while begun and (len(begun) > parallel or number == len(files) - 1):
                path, name, heard = begun.popleft()
                try:
                    _put(path, name, heard(), config, written)
                except ServerError as error:
                    raise ValueError(str(error)) from None
                except ValueError as error:
                    failures += 1
                    print(f"{path}: {error}", file=sys.stderr, flush=True)
    if failures:
        raise SystemExit(1)


class Hearing:
    """Hears audio side by side, with no more of it in memory than is heard soon.

    Use it as a context manager; leaving does not begin what waits.

    Args:
        transcribe: What hears an audio file.
        parallel: How many at once.
    """

    def __init__(self, transcribe: Transcribe, parallel: int) -> None:
        self._transcribe = transcribe
        self._threads = ThreadPoolExecutor(parallel)
        self._room = threading.Semaphore(2 * parallel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def begin(self, audio: bytes) -> Future[Transcript]:
        """Begins to hear a file, as soon as there is room for it."""
        self._room.acquire()
        future = self._threads.submit(self._transcribe, audio)
        future.add_done_callback(lambda _: self._room.release())
        return future


def _parallel(files: Sequence[Path]) -> int:
    """As many as there are processors; one alone is heard sooner by all threads together."""
    short = len(files) == 1 and files[0] != STDIN and _seconds(str(files[0])) <= _UNTOLD_SECONDS
    return 1 if short else len(os.sched_getaffinity(0))


def _transcriber(config: TranscribeConfig, parallel: int) -> tuple[Transcribe, Limits]:
    """Makes what hears a file, and says how much of it at once."""
    if config.model is None:
        # Each kind of model has imports of its own, which take longer than a short file.
        from tfasr.serving.client import Client

        token = "" if config.token_file is None else read_token(config.token_file)
        client = Client(url=config.url, token=token)
        limits = _limits(config, whole=_UNTOLD_SECONDS, part=_UNTOLD_SECONDS)
        return lambda audio: client.transcribe([audio])[0], limits
    with _uncollected():
        _start_tensorflow(optimising=parallel > 1)
        from pipelines.threads import take_one_thread_an_operation
        from tfasr.serving.runtime import ServedModel

        if parallel > 1:
            take_one_thread_an_operation()
        # What is longer is parted before.
        model = ServedModel(config.model, max_seconds=math.inf)
        if parallel > 1:
            model.warm_up()
    told = float(model.facts.get("longest_seconds", _UNTOLD_SECONDS))
    limits = _limits(config, whole=_WHOLE * told, part=told)
    return lambda audio: transcript_of(model.hear(audio, "instance 0")), limits


def _limits(config: TranscribeConfig, *, whole: float, part: float) -> Limits:
    wanted = config.max_seconds
    return Limits(wanted or whole, wanted or part)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Makes objects that stay, without looking for garbage among them: a tenth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _start_tensorflow(*, optimising: bool) -> None:
    """Imports TensorFlow for a process that transcribes and ends.

    That takes a quarter less of the time without JAX, which its converter for LiteRT asks for,
    and Keras; it goes on where they are not there.

    Args:
        optimising: Whether the model's graph is optimised, which takes longer than a few files. As
            it is saved, it is not called twice at once.
    """
    if "tensorflow" in sys.modules:
        return
    unneeded = [name for name in ("jax", "keras") if name not in sys.modules]
    # What stands as None is not imported.
    hidden: dict[str, Any] = dict.fromkeys(unneeded)
    sys.modules.update(hidden)
    try:
        tf = importlib.import_module("tensorflow")
    finally:
        for name in unneeded:
            del sys.modules[name]
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not optimising})


def _audio_files(config: TranscribeConfig) -> list[tuple[Path, Path]]:
    """Lists each file, and its name below the folder that was given."""
    found = []
    for given in config.files:
        files = given.rglob("*") if given.is_dir() else [given]
        audio = sorted(file for file in files if file.suffix.lower() in AUDIO_SUFFIXES)
        for path in audio or [given]:
            found.append((path, path.relative_to(given) if path != given else Path(given.name)))
    return found


def _begin(path: Path, hearing: Hearing, limits: Limits) -> Heard:
    """Begins to hear a file; what it returns waits for the transcript, or raises what failed."""
    try:
        return _heard(path, hearing, limits)
    except ValueError as error:
        failed: Future[Transcript] = Future()
        failed.set_exception(error)
        return failed.result


def _heard(path: Path, hearing: Hearing, limits: Limits) -> Heard:
    if path.is_dir():
        raise ValueError("must hold audio files; it holds none")
    audio = sys.stdin.buffer.read() if path == STDIN else b""
    if _seconds(io.BytesIO(audio) if path == STDIN else str(path)) <= limits.whole:
        whole = hearing.begin(audio or _content(path))
        return lambda: _result(whole)
    opened = open_recording_bytes(audio, str(path)) if path == STDIN else open_recording(path)
    with opened as recording:
        parts = [
            (part.start, hearing.begin(wav_bytes(part.samples, recording.rate)))
            for part in parts_at_pauses(recording, max_seconds=limits.part)
        ]
    return lambda: _joined(parts)


def _joined(begun: Sequence[tuple[float, Future[Transcript]]]) -> Transcript:
    parts = [(start, _result(part)) for start, part in begun]
    start, last = parts[-1]
    return joined(parts, start + last.seconds)


def _content(path: Path) -> bytes:
    if path == STDIN:
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"must be a file that can be read; {error.strerror}") from None


def _seconds(source: str | io.BytesIO) -> float:
    """How long a recording is by its header; 0 of what is none."""
    try:
        return float(soundfile.info(source).duration)
    except soundfile.SoundFileError:
        return 0.0


def _result(heard: Future[Transcript]) -> Transcript:
    try:
        return heard.result()
    except ValueError as error:
        # The one file of a request is its first instance.
        raise ValueError(str(error).removeprefix("instance 0: ")) from None


def _put(
    path: Path, name: Path, transcript: Transcript, config: TranscribeConfig, written: set[Path]
) -> None:
    text = _written(path, transcript, config)
    if config.out is None:
        print(text, end="", flush=True)
        return
    stem = "stdin" if name == STDIN else name.with_suffix("")
    out = config.out / f"{stem}.{config.suffix}"
    if out in written:
        raise ValueError(f"{out} is the transcript of another file; give one of them alone")
    written.add(out)
    write_text(out, text)


def _written(path: Path, transcript: Transcript, config: TranscribeConfig) -> str:
    if config.format == "lines":
        return f"{path}\t{transcript.text}\n"
    if config.format == "json":
        value = {"file": str(path), **asdict(transcript)}
        return f"{json.dumps(value, ensure_ascii=False)}\n"
    return write_transcript(transcript, config.format)
