"""A transcript as text, JSON or subtitles."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tfasr.serving.answers import Heard

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]

# A subtitle of two lines of 42 letters may stand for seven seconds.
# Source: Netflix Timed Text Style Guide, English, sections 1 and 2.
_SUBTITLE_SECONDS = 7.0
_SUBTITLE_LETTERS = 84
# Silence that ends a segment.
_PAUSE_SECONDS = 0.7


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A word, or a stretch of words, and when it was said, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said in one recording.

    Args:
        text: All of it.
        seconds: How long the recording is.
        words: When each word was said, where the model tells.
    """

    text: str
    seconds: float
    words: tuple[Spoken, ...] = ()

    def segments(self) -> list[Spoken]:
        """Parts the text at pauses, into what fits a subtitle.

        Without the times of words it is one segment, as long as the recording.
        """
        if not self.text:
            return []
        if not self.words:
            return [Spoken(text=self.text, start=0.0, end=self.seconds)]
        segments: list[Spoken] = []
        for word in self.words:
            last = segments[-1] if segments else None
            if last is not None and _fits(last, word):
                text = f"{last.text} {word.text}"
                segments[-1] = Spoken(text=text, start=last.start, end=word.end)
            else:
                segments.append(word)
        return segments


def _fits(segment: Spoken, word: Spoken) -> bool:
    return (
        word.start - segment.end < _PAUSE_SECONDS
        and word.end - segment.start <= _SUBTITLE_SECONDS
        and len(segment.text) + 1 + len(word.text) <= _SUBTITLE_LETTERS
    )


def transcript_of(heard: Heard) -> Transcript:
    """Reads "text", "words", "starts" and "ends" of an answer, times in seconds."""
    words = [word.decode("utf-8", errors="replace") for word in heard.answer.get("words", ())]
    times = [heard.answer.get(name, ()) for name in ("starts", "ends")]
    return Transcript(text=heard.text, seconds=heard.seconds, words=_timed(words, *times))


def transcript_of_prediction(prediction: Any, seconds: float) -> Transcript:
    """Reads what a server predicts for one utterance: its text, or an object of all outputs.

    Args:
        prediction: JSON, in which words and times may be padded.
        seconds: How long the utterance is.

    Raises:
        KeyError, TypeError: It is something else.
    """
    outputs = {"text": prediction} if isinstance(prediction, str) else prediction
    text = outputs["text"]
    if not isinstance(text, str):
        raise TypeError
    words = [word for word in outputs.get("words", ()) if word]
    # Padding is negative.
    times = [[t for t in outputs.get(name, ()) if t >= 0] for name in ("starts", "ends")]
    return Transcript(text=text, seconds=seconds, words=_timed(words, *times))


def _timed(
    words: Sequence[str], starts: Sequence[float], ends: Sequence[float]
) -> tuple[Spoken, ...]:
    """Gives words their times, or no words where the model has no time for each."""
    if not len(words) == len(starts) == len(ends):
        return ()
    return tuple(
        Spoken(text=word, start=round(float(start), 3), end=round(float(end), 3))
        for word, start, end in zip(words, starts, ends, strict=True)
    )


def joined(parts: Sequence[tuple[float, Transcript]], seconds: float) -> Transcript:
    """Makes the transcript of a recording of those of its parts.

    Args:
        parts: In order, each with the seconds of the recording before it.
        seconds: How long the recording is.
    """
    words = [
        replace(word, start=round(start + word.start, 3), end=round(start + word.end, 3))
        for start, part in parts
        for word in part.words
    ]
    # A part whose words have no times would be missing among those that have.
    is_timed = all(bool(part.words) == bool(part.text) for _, part in parts)
    text = " ".join(part.text for _, part in parts if part.text)
    return Transcript(text=text, seconds=seconds, words=tuple(words) if is_timed else ())


def write_transcript(transcript: Transcript, form: TranscriptFormat) -> str:
    """Writes a transcript in one of the forms of OpenAI's transcription interface."""
    return _WRITERS[form](transcript)


def _json(transcript: Transcript) -> str:
    return json.dumps({"text": transcript.text}, ensure_ascii=False)


def _text(transcript: Transcript) -> str:
    return f"{transcript.text}\n"


def _verbose_json(transcript: Transcript) -> str:
    value: dict[str, Any] = {
        "task": "transcribe",
        # ISO 639-2 for a language that nobody has determined: the model knows one only.
        "language": "und",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "segments": [
            {"id": number, **asdict(segment)}
            for number, segment in enumerate(transcript.segments())
        ],
    }
    if transcript.words:
        value["words"] = [
            {"word": word.text, "start": word.start, "end": word.end} for word in transcript.words
        ]
    return json.dumps(value, ensure_ascii=False)


def _srt(transcript: Transcript) -> str:
    return "\n".join(
        f"{number}\n{_time(segment.start, ',')} --> {_time(segment.end, ',')}\n{segment.text}\n"
        for number, segment in enumerate(transcript.segments(), start=1)
    )


def _vtt(transcript: Transcript) -> str:
    return "WEBVTT\n\n" + "\n".join(
        f"{_time(segment.start, '.')} --> {_time(segment.end, '.')}\n{_escaped(segment.text)}\n"
        for segment in transcript.segments()
    )


def _escaped(text: str) -> str:
    """Writes cue text of WebVTT, in which "&" and "<" begin something else."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


_WRITERS: dict[TranscriptFormat, Callable[[Transcript], str]] = {
    "json": _json,
    "text": _text,
    "srt": _srt,
    "verbose_json": _verbose_json,
    "vtt": _vtt,
}
FORMATS: Sequence[TranscriptFormat] = tuple(_WRITERS)
