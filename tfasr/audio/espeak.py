"""Speech by espeak-ng, the same samples every time, made in worker processes.

espeak-ng carries state from one sentence to the next. So a worker initialises it once and
forks for every sentence. The forks happen in a process of its own, `python -m
tfasr.audio.espeak`, because a process that has loaded TensorFlow must not fork.
"""

import ctypes
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, cast

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 22050  # of espeak-ng's own voices, in hertz

# An answer is this length in bytes, then int16 PCM; or a negative length, then a message.
_LENGTH = struct.Struct("<i")

# From espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_OPTION_DONT_EXIT = 0x8000
_CHARACTERS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One sentence to speak.

    Args:
        sentence_id: Names it in messages.
        text: What is said.
        accent: A voice of espeak-ng, such as "en-us".
        variant: A variant of that voice, such as "f2".
        rate: Words a minute, 80 to 450.
        pitch: Base pitch, 0 to 99; 50 is the variant's own.
        pitch_range: Liveliness of the pitch, 0 to 99; 50 is the variant's own.
        seed: Of espeak-ng's noise and flutter.
    """

    sentence_id: str
    text: str
    accent: str
    variant: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    seed: int = 0


def require_espeak() -> None:
    """Says how to install espeak-ng where it is missing.

    Raises:
        ModuleNotFoundError: `espeakng_loader` is not installed.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ModuleNotFoundError(
            "the synthetic corpus needs espeakng-loader; pip install 'tfasr[synthetic]'"
        )


def speak(sentences: Iterable[Sentence], jobs: int = 0) -> Iterator[npt.NDArray[np.int16]]:
    """Speaks sentences in worker processes that end with this one, however it ends.

    Args:
        sentences: Taken a few ahead of what is consumed.
        jobs: Workers side by side; 0 means one a core.

    Returns:
        int16 [T] at `SAMPLE_RATE` for each sentence, in order. The samples depend on the
        sentence alone, not on its place or on `jobs`.

    Raises:
        ModuleNotFoundError: `espeakng_loader` is not installed.
        ValueError: espeak-ng has no such voice, or made no sound.
    """
    require_espeak()
    return _speak(sentences, jobs or os.cpu_count() or 1)


def _speak(sentences: Iterable[Sentence], jobs: int) -> Iterator[npt.NDArray[np.int16]]:
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def answer(sentence: Sentence) -> npt.NDArray[np.int16]:
        worker = idle.get()
        try:
            return worker.speak(sentence)
        finally:
            idle.put(worker)

    pending: deque[Future[npt.NDArray[np.int16]]] = deque()
    with ExitStack() as stack:
        for _ in range(jobs):
            worker = _Worker()
            stack.callback(worker.close)
            idle.put(worker)
        pool = ThreadPoolExecutor(jobs)
        stack.callback(pool.shutdown, cancel_futures=True)
        for sentence in sentences:
            pending.append(pool.submit(answer, sentence))
            if len(pending) == 4 * jobs:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfasr.audio.espeak"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def speak(self, sentence: Sentence) -> npt.NDArray[np.int16]:
        requests = cast(IO[bytes], self._process.stdin)
        answers = cast(IO[bytes], self._process.stdout)
        try:
            requests.write(json.dumps(asdict(sentence)).encode() + b"\n")
            requests.flush()
            (length,) = _LENGTH.unpack(_read_exactly(answers, _LENGTH.size))
            payload = _read_exactly(answers, abs(length))
        except (BrokenPipeError, EOFError):
            raise RuntimeError(
                f"{sentence.sentence_id}: the espeak-ng process ended before it answered"
            ) from None
        if length < 0:
            raise ValueError(f"{sentence.sentence_id}: {payload.decode()}")
        return np.frombuffer(payload, "<i2").astype(np.int16, copy=False)

    def close(self) -> None:
        # What a dead worker left unread can't be flushed.
        with suppress(BrokenPipeError), self._process:
            pass


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError(f"{size} bytes expected; got {len(data)}")
    return data


class _Engine:
    """espeak-ng in this process, through ctypes."""

    def __init__(self) -> None:
        # Here, not above: only the worker needs it, and it is an optional dependency.
        import espeakng_loader

        data = Path(espeakng_loader.get_data_path())
        self._variants = data / "voices" / "!v"
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._chunks: list[bytes] = []
        self._callback = _SYNTH_CALLBACK(self._collect)
        rate = self._library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, os.fsencode(data), _OPTION_DONT_EXIT
        )
        if rate != SAMPLE_RATE:
            raise ValueError(f"espeak-ng must give {SAMPLE_RATE} samples a second; got {rate}")
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def pcm(self, sentence: Sentence) -> bytes:
        voice = f"{sentence.accent}+{sentence.variant}"
        # espeak-ng falls back to the plain voice without a word where a variant is missing.
        if not (self._variants / sentence.variant).is_file() or (
            self._library.espeak_SetVoiceByName(voice.encode())
        ):
            raise ValueError(f"accent and variant must be a voice of espeak-ng; got {voice}")
        self._library.espeak_ng_SetRandSeed(sentence.seed)
        for parameter, value in (
            (_RATE, sentence.rate),
            (_PITCH, sentence.pitch),
            (_RANGE, sentence.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = sentence.text.encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _CHARACTERS_UTF8, None, None)
        pcm = b"".join(self._chunks)
        if not pcm.strip(b"\0"):
            raise ValueError(f"text must have something to say; got text={sentence.text!r}")
        return pcm


def _answer(engine: _Engine, request: bytes, answers: IO[bytes]) -> int:
    try:
        payload = engine.pcm(Sentence(**json.loads(request)))
        length = len(payload)
    except Exception as error:  # the parent raises it
        payload = str(error).encode()
        length = -len(payload)
    try:
        answers.write(_LENGTH.pack(length) + payload)
        answers.flush()
    except BrokenPipeError:  # the parent has gone
        return 1
    return 0


def main() -> None:
    """Answers JSON lines on standard input with PCM on standard output until input ends."""
    # Ctrl-C reaches the whole process group; the parent ends its workers in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    engine = _Engine()
    answers = sys.stdout.buffer
    for request in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            os._exit(_answer(engine, request, answers))
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(1)


if __name__ == "__main__":
    main()
