import json

import numpy as np
import pytest

from tfasr.serving.answers import Heard
from tfasr.serving.transcripts import (
    Spoken,
    Transcript,
    transcript_of,
    transcript_of_prediction,
    write_transcript,
)


def timed(*words, seconds=10.0):
    spoken = tuple(Spoken(text=text, start=start, end=end) for text, start, end in words)
    return Transcript(text=" ".join(w.text for w in spoken), seconds=seconds, words=spoken)


SPOKEN = timed(("one", 0.5, 0.9), ("<two>", 1.0, 1.25), ("three", 3661.5, 3662.0))


def test_words_take_the_times_that_the_model_gives():
    answer = {
        "text": "a bc",
        "words": np.array([b"a", b"bc"], object),
        "starts": np.array([0.04, 0.5], np.float32),
        "ends": np.array([0.2, 0.75], np.float32),
    }
    transcript = transcript_of(Heard(answer=answer, seconds=1.5))
    assert transcript == timed(("a", 0.04, 0.2), ("bc", 0.5, 0.75), seconds=1.5)


@pytest.mark.parametrize(
    "times",
    [{}, {"starts": [0.0, 1.0], "ends": [1.0, 2.0]}, {"words": [b"a", b"bc"], "starts": []}],
)
def test_without_a_time_for_each_word_there_are_none(times):
    transcript = transcript_of(Heard(answer={"text": "a bc", **times}, seconds=1.5))
    assert transcript.words == ()
    assert transcript.segments() == [Spoken(text="a bc", start=0.0, end=1.5)]


def test_a_pause_parts_segments():
    assert [s.text for s in SPOKEN.segments()] == ["one <two>", "three"]


def test_a_segment_fits_a_subtitle():
    slow = timed(*[("word", 0.5 * n, 0.5 * n + 0.5) for n in range(20)])
    assert [(s.start, s.end) for s in slow.segments()] == [(0.0, 7.0), (7.0, 10.0)]
    long = timed(*[("a" * 42, 0.1 * n, 0.1 * n + 0.1) for n in range(3)])
    assert [len(s.text) for s in long.segments()] == [42, 42, 42]


def test_silence_has_no_segments():
    silence = Transcript(text="", seconds=2.0)
    assert silence.segments() == []
    assert write_transcript(silence, "srt") == ""
    assert write_transcript(silence, "vtt") == "WEBVTT\n\n"
    assert write_transcript(silence, "text") == "\n"


def test_subrip_by_hand():
    assert write_transcript(SPOKEN, "srt") == (
        "1\n00:00:00,500 --> 00:00:01,250\none <two>\n\n2\n01:01:01,500 --> 01:01:02,000\nthree\n"
    )


def test_webvtt_by_hand():
    assert write_transcript(SPOKEN, "vtt") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\none &lt;two&gt;\n\n"
        "01:01:01.500 --> 01:01:02.000\nthree\n"
    )


def test_json_has_the_text_alone():
    transcript = Transcript(text="é", seconds=1.0)
    assert write_transcript(transcript, "json") == '{"text": "é"}'


def test_verbose_json_has_words_and_segments():
    value = json.loads(write_transcript(SPOKEN, "verbose_json"))
    assert value["duration"] == 10.0
    assert value["words"][1] == {"word": "<two>", "start": 1.0, "end": 1.25}
    assert value["segments"][1] == {"id": 1, "text": "three", "start": 3661.5, "end": 3662.0}


def test_verbose_json_without_times_has_no_words():
    value = json.loads(write_transcript(Transcript(text="a b", seconds=2.5), "verbose_json"))
    assert "words" not in value
    assert [segment["end"] for segment in value["segments"]] == [2.5]


def test_predictions_of_text_and_of_all_outputs_are_read():
    prediction = {"text": "a", "words": ["a", ""], "starts": [0.5, -1.0], "ends": [0.75, -1.0]}
    assert transcript_of_prediction(prediction, 2.0) == timed(("a", 0.5, 0.75), seconds=2.0)
    assert transcript_of_prediction("a", 2.0) == Transcript(text="a", seconds=2.0)


@pytest.mark.parametrize("prediction", [None, 1, [], {}, {"text": 1}])
def test_what_is_no_prediction_is_refused(prediction):
    with pytest.raises((KeyError, TypeError)):
        transcript_of_prediction(prediction, 1.0)
