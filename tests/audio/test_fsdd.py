import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfasr.audio.fsdd import Fsdd
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError
from tfasr.configs.corpora import FsddConfig

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "fsdd"


def add_recordings(folder: Path, speakers: str = "ab", digits: str = "0123456789", takes: int = 4):
    """Take t of digit d holds 10 + d samples of the value 100 * d + t + 1."""
    folder.mkdir(exist_ok=True)
    for speaker in speakers:
        for digit in map(int, digits):
            for take in range(takes):
                samples = np.full(10 + digit, 100 * digit + take + 1, np.int16)
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", samples, 8000)
    return folder


def config(**changes) -> FsddConfig:
    settings = {
        "train_strings": 12,
        "valid_strings": 6,
        "test_strings": 6,
        "train_takes": "2-3",
        "valid_takes": "1",
        "test_takes": "0",
        **changes,
    }
    return FsddConfig(**settings)


def corpus_in(source: Path, sample_rate: int = 8000, **changes) -> Fsdd:
    return Fsdd(config(**changes), source, AudioReader(sample_rate=sample_rate))


def values_of(audio: np.ndarray) -> list[int]:
    """The values of the recordings, which silence parts, one after the other."""
    parts = np.split(audio, np.flatnonzero(np.diff(audio)) + 1)
    return [int(part[0]) for part in parts if part[0]]


def test_strings_are_named_by_split_speaker_and_number(tmp_path):
    listed, errors = corpus_in(add_recordings(tmp_path)).utterances()
    assert not errors
    assert [entry.utterance_id for entry in listed[10:14]] == [
        "train-a-00010",
        "train-b-00011",
        "valid-a-00000",
        "valid-b-00001",
    ]
    assert listed[10].origin == "fsdd string train-a-00010"
    assert (listed[10].domain, listed[10].speaker, listed[10].audio_filepath) == ("fsdd", "a", None)


def test_speakers_have_equally_many_strings(tmp_path):
    listed, _ = corpus_in(add_recordings(tmp_path, "abc")).utterances()
    counts = Counter((entry.split, entry.speaker) for entry in listed)
    assert [counts["train", speaker] for speaker in "abc"] == [4, 4, 4]
    assert [counts["test", speaker] for speaker in "abc"] == [2, 2, 2]


def test_audio_says_the_digits_of_the_text_in_takes_of_the_split(tmp_path):
    corpus = corpus_in(add_recordings(tmp_path))
    listed, _ = corpus.utterances()
    words = "zero one two three four five six seven eight nine".split()
    takes = {"train": {2, 3}, "valid": {1}, "test": {0}}
    for entry, audio in zip(listed, corpus.samples(listed), strict=True):
        values = [value - 1 for value in values_of(audio)]
        assert " ".join(words[value // 100] for value in values) == entry.text
        assert {value % 100 for value in values} <= takes[entry.split]


def test_a_string_is_its_recordings_between_its_pauses(tmp_path):
    corpus = corpus_in(add_recordings(tmp_path))
    listed, _ = corpus.utterances()
    (audio,) = corpus.samples(listed[:1])
    recordings, pauses = corpus.parts(listed[0])
    position = 0
    for recording, pause in zip(recordings, pauses, strict=False):
        assert not audio[position : position + pause].any()
        position += pause
        expected, _ = soundfile.read(recording, dtype="int16")
        np.testing.assert_array_equal(audio[position : position + len(expected)], expected)
        position += len(expected)
    assert not audio[position:].any()
    assert len(audio) - position == pauses[-1]


def test_pauses_are_within_their_limits_and_vary(tmp_path):
    corpus = corpus_in(add_recordings(tmp_path), train_strings=200)
    listed, _ = corpus.utterances()
    pauses = [pause for entry in listed for pause in corpus.parts(entry)[1]]
    assert min(pauses) >= 400  # 0.05 s at 8 kHz
    assert max(pauses) <= 2400  # 0.3 s
    # Uniform: mean 1,400, standard error 577 / sqrt(1,272) = 16.
    assert abs(np.mean(pauses) - 1400) < 65


def test_lengths_and_digits_are_drawn_evenly(tmp_path):
    listed, _ = corpus_in(add_recordings(tmp_path), train_strings=2000).utterances()
    texts = [entry.text.split() for entry in listed if entry.split == "train"]
    lengths = Counter(map(len, texts))
    assert sorted(lengths) == [3, 4, 5, 6, 7]
    assert min(lengths.values()) > 330  # 400 expected, standard deviation 18
    digits = Counter(digit for text in texts for digit in text)
    assert len(digits) == 10
    assert min(digits.values()) > 880  # 1,000 expected, standard deviation 30


def test_strings_do_not_depend_on_how_many_there_are_or_on_the_order_of_reading(tmp_path):
    add_recordings(tmp_path)
    few, many = corpus_in(tmp_path, train_strings=4), corpus_in(tmp_path)
    first = [entry for entry in few.utterances()[0] if entry.split == "train"]
    again = many.utterances()[0][:4]
    assert first == again
    forward = list(few.samples(first))
    backward = list(many.samples(again[::-1]))[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_other_strings(tmp_path):
    add_recordings(tmp_path)
    texts = [
        [entry.text for entry in corpus_in(tmp_path, seed=seed).utterances()[0]] for seed in (0, 1)
    ]
    assert texts[0] != texts[1]


def test_the_folder_above_the_recordings_is_found_too(tmp_path):
    add_recordings(tmp_path / "recordings")
    above, inside = corpus_in(tmp_path), corpus_in(tmp_path / "recordings")
    assert above.utterances() == inside.utterances()


def test_recordings_are_resampled(tmp_path):
    add_recordings(tmp_path)
    corpus = corpus_in(tmp_path, sample_rate=16000)
    listed, _ = corpus.utterances()
    (audio,) = corpus.samples(listed[:1])
    recordings, pauses = corpus.parts(listed[0])
    lengths = [2 * (10 + int(path.name[0])) for path in recordings]
    assert len(audio) == sum(lengths) + sum(pauses)
    assert min(pauses) >= 800


def test_only_digits_that_a_speaker_has_are_drawn(tmp_path):
    add_recordings(tmp_path, "a", digits="37")
    listed, _ = corpus_in(tmp_path).utterances()
    assert {word for entry in listed for word in entry.text.split()} == {"three", "seven"}


def test_a_split_without_recordings_has_no_strings(tmp_path):
    listed, errors = corpus_in(add_recordings(tmp_path), test_takes="40-49").utterances()
    assert not errors
    assert Counter(entry.split for entry in listed) == {"train": 12, "valid": 6}


def test_a_speaker_without_takes_of_a_split_is_left_out_of_it(tmp_path):
    add_recordings(tmp_path, "a")
    add_recordings(tmp_path, "b", takes=1)
    listed, _ = corpus_in(tmp_path).utterances()
    assert {entry.speaker for entry in listed if entry.split == "train"} == {"a"}
    assert {entry.speaker for entry in listed if entry.split == "test"} == {"a", "b"}


def test_a_source_without_recordings_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        ValueError, match=rf"{{take}}\.wav of the takes 2-3 \(train\).*{re.escape(str(tmp_path))}"
    ):
        corpus_in(tmp_path).utterances()


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ValueError, match="source must be the folder of recordings; got source="):
        corpus_in(tmp_path / "none").utterances()


def test_files_with_other_names_are_listed(tmp_path):
    add_recordings(tmp_path)
    for name in ("notes.txt", "3_a_07.wav", "x_a_1.wav", ".hidden"):
        (tmp_path / name).touch()
    listed, errors = corpus_in(tmp_path).utterances()
    rule = "must be named {digit}_{speaker}_{take}.wav"
    assert len(listed) == 24
    assert [str(error) for error in errors] == [
        f"{tmp_path / name}: {rule}" for name in ("3_a_07.wav", "notes.txt", "x_a_1.wav")
    ]


def test_a_damaged_recording_spoils_only_its_strings_and_is_named(tmp_path):
    add_recordings(tmp_path, "a")
    (tmp_path / "5_a_1.wav").write_bytes(b"RIFF")
    corpus = corpus_in(tmp_path, valid_strings=30)
    listed, errors = corpus.utterances()
    assert not errors
    for entry, found in zip(listed, corpus.samples(listed), strict=True):
        if entry.split == "valid" and "five" in entry.text:
            assert isinstance(found, CorpusError)
            assert str(found).startswith(f"{tmp_path / '5_a_1.wav'}: must be audio")
        else:
            assert isinstance(found, np.ndarray)


def test_an_unknown_speaker_is_named_with_those_that_exist(tmp_path):
    add_recordings(tmp_path)
    with pytest.raises(ValueError, match=r"test_speakers .* those of a, b; got lucas$"):
        corpus_in(tmp_path, test_speakers=("lucas",)).utterances()


def test_speakers_of_a_split_are_its_own(tmp_path):
    speakers = {"train_speakers": ("a",), "valid_speakers": ("a",), "test_speakers": ("b",)}
    corpus = corpus_in(add_recordings(tmp_path), train_takes="0,2-3", **speakers)
    listed, _ = corpus.utterances()
    assert {(entry.split, entry.speaker) for entry in listed} == {
        ("train", "a"),
        ("valid", "a"),
        ("test", "b"),
    }


def test_a_session_has_takes_of_its_own_and_only_training_has_sessions(tmp_path):
    corpus = corpus_in(add_recordings(tmp_path, takes=6), train_takes="2-5", sessions=2)
    listed, _ = corpus.utterances()
    assert Counter((entry.split, entry.speaker) for entry in listed) == {
        **{("train", f"{speaker}-{session}"): 3 for speaker in "ab" for session in (0, 1)},
        **{(split, speaker): 3 for speaker in "ab" for split in ("valid", "test")},
    }
    takes = {"a-0": {2, 3}, "a-1": {4, 5}, "b-0": {2, 3}, "b-1": {4, 5}}
    for entry, audio in zip(listed[:12], corpus.samples(listed[:12]), strict=True):
        assert {(value - 1) % 100 for value in values_of(audio)} <= takes[entry.speaker]


def test_more_sessions_than_takes_are_named():
    with pytest.raises(ValueError, match="got sessions=3, train_takes='2-3'"):
        config(sessions=3)


@pytest.mark.parametrize(
    ("changes", "overlap"),
    [
        ({"test_takes": "3-9"}, "takes 3 of all speakers in both train and test"),
        ({"valid_takes": "0"}, "takes 0 of all speakers in both valid and test"),
        (
            {"train_speakers": ("a", "b"), "test_speakers": ("b",), "test_takes": "2,3"},
            "takes 2, 3 of b in both train and test",
        ),
        (
            {"test_speakers": ("b",), "test_takes": "2"},
            "takes 2 of b in both train and test",
        ),
    ],
)
def test_a_recording_in_two_splits_is_refused(changes, overlap):
    with pytest.raises(ValueError, match=overlap):
        config(**changes)


def test_a_split_without_strings_overlaps_nothing():
    assert config(test_takes="3", test_strings=0).splits["test"].takes == {3}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/fsdd")
def test_recorded_strings_are_their_recordings_and_pauses():
    config = FsddConfig(train_strings=50, valid_strings=20)
    corpus = Fsdd(config, SHARED, AudioReader(sample_rate=8000))
    listed, errors = corpus.utterances()
    assert not errors
    # The takes 0 to 4 are not in this folder.
    assert Counter(entry.split for entry in listed) == {"train": 50, "valid": 20}
    assert len({entry.speaker for entry in listed}) == 5
    recordings, pauses = corpus.parts(listed[7])
    expected = [np.zeros(pauses[0])]
    for recording, pause in zip(recordings, pauses[1:], strict=True):
        expected += [soundfile.read(recording, dtype="int16")[0], np.zeros(pause)]
    (audio,) = corpus.samples(listed[7:8])
    np.testing.assert_array_equal(audio, np.concatenate(expected))
