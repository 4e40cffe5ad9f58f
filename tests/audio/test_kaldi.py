import os
import re
from pathlib import Path

import numpy as np
import pytest

from tfasr.audio.decoding import write_wav
from tfasr.audio.kaldi import Kaldi
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError, Segment
from tfasr.configs.audio import AudioConfig
from tfasr.configs.corpora import KaldiConfig

RATE = 1000


def write(folder: Path, **tables: str) -> Path:
    """Writes tables; `wav_scp` is wav.scp."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def write_ramp(path: Path, num_samples: int = 1000) -> Path:
    """A recording whose samples are their own numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, np.arange(num_samples, dtype=np.int16), RATE)
    return path


def corpus(source: Path, *subsets: str, **config: str) -> Kaldi:
    return Kaldi(KaldiConfig(**config), subsets, source, AudioReader(sample_rate=RATE))


def small(source: Path) -> Path:
    """Whole recordings in train, segments of one in dev."""
    for name in ("a1", "a2", "talk"):
        write_ramp(source / "wav" / f"{name}.wav", num_samples=len(name) * 100)
    write(
        source / "train",
        wav_scp="a1 wav/a1.wav\na2 wav/a2.wav\n",
        text="a1 HELLO  WORLD\na2 BYE\n",
        utt2spk="a1 ada\na2 ada\n",
    )
    write(
        source / "dev",
        wav_scp="talk wav/talk.wav\n",
        segments="talk-2 talk 0.1 0.25\ntalk-3 talk 0.3 -1\n",
        text="talk-3 THREE\ntalk-2 TWO\n",
    )
    return source


def broken(folder: Path, name: str, text: str) -> list[str]:
    """Messages of a folder with two good segments and a table that is not."""
    write_ramp(folder / "r.wav")
    tables = {
        "wav_scp": "r r.wav\n",
        "segments": "u1 r 0 0.5\nu2 r 0.5 1\n",
        "text": "u1 ONE\nu2 TWO\n",
        "utt2spk": "u1 ada\nu2 bo\n",
    }
    write(folder, **{**tables, name: text})
    return [str(error) for error in corpus(folder).utterances()[1]]


def test_an_utterance_says_where_it_comes_from(tmp_path):
    listed, errors = corpus(small(tmp_path), "train").utterances()
    assert not errors
    assert [entry.utterance_id for entry in listed] == ["a1", "a2"]
    assert (listed[0].split, listed[0].speaker, listed[0].domain) == ("train", "ada", "train")
    assert listed[0].text == "HELLO  WORLD"
    assert listed[0].audio_filepath == tmp_path / "wav" / "a1.wav"
    assert listed[0].origin == f"{tmp_path / 'train' / 'text'}:1"


def test_segments_are_parts_of_their_recording_in_the_order_of_text(tmp_path):
    (last, first), errors = corpus(small(tmp_path), "dev").utterances()
    assert not errors
    assert isinstance(first, Segment)
    assert isinstance(last, Segment)
    assert (first.utterance_id, first.offset, first.duration) == ("talk-2", 0.1, 0.15)
    assert (last.utterance_id, last.offset, last.duration) == ("talk-3", 0.3, 0.4 - 0.3)
    assert first.audio_filepath == last.audio_filepath == tmp_path / "wav" / "talk.wav"


def test_samples_are_those_of_the_parts(tmp_path):
    reader = corpus(small(tmp_path), "dev")
    listed, _ = reader.utterances()
    last, first = reader.samples(listed)
    np.testing.assert_array_equal(first, np.arange(100, 250))
    np.testing.assert_array_equal(last, np.arange(300, 400))


def test_without_utt2spk_nobody_is_the_speaker(tmp_path):
    listed, _ = corpus(small(tmp_path), "dev").utterances()
    assert [entry.speaker for entry in listed] == ["", ""]


def test_all_data_folders_are_taken_and_nothing_else(tmp_path):
    write(small(tmp_path) / "local", text="nothing")
    (tmp_path / "lang").mkdir()
    listed, _ = corpus(tmp_path).utterances()
    assert [(entry.utterance_id, entry.split) for entry in listed] == [
        ("talk-3", "valid"),
        ("talk-2", "valid"),
        ("a1", "train"),
        ("a2", "train"),
    ]


def test_a_data_folder_alone_trains(tmp_path):
    listed, errors = corpus(small(tmp_path) / "dev").utterances()
    assert not errors
    assert [(entry.split, entry.domain) for entry in listed] == [("train", "dev")] * 2


def test_listing_decodes_no_audio(tmp_path):
    broken_file = small(tmp_path) / "wav" / "a1.wav"
    broken_file.write_bytes(b"broken")
    reader = corpus(tmp_path, "train")
    listed, errors = reader.utterances()
    assert not errors
    first, second = reader.samples(listed)
    assert isinstance(first, CorpusError)
    assert f"{broken_file}: must be audio" in str(first)
    np.testing.assert_array_equal(second, np.arange(200))


@pytest.mark.parametrize("place", ["egs/data/train", "egs/data", "egs"])
def test_a_path_may_start_at_each_of_three_folders(tmp_path, place):
    write_ramp(tmp_path / place / "my wav" / "a.wav")
    folder = tmp_path / "egs" / "data" / "train"
    write(folder, wav_scp="a my wav/a.wav\n", text="a HELLO\n")
    (found,), errors = corpus(tmp_path / "egs" / "data").utterances()
    assert not errors
    assert found.audio_filepath == tmp_path / place / "my wav" / "a.wav"


def test_a_relative_source_finds_the_recipes_folder(tmp_path, monkeypatch):
    write_ramp(tmp_path / "a.wav")
    write(tmp_path / "data" / "train", wav_scp="a a.wav\n", text="a HELLO\n")
    monkeypatch.chdir(tmp_path / "data" / "train")
    (found,), _ = corpus(Path()).utterances()
    assert (found.domain, found.audio_filepath) == ("train", tmp_path / "a.wav")


def test_an_absolute_path_is_taken_as_it_is(tmp_path):
    path = write_ramp(tmp_path / "elsewhere" / "a.wav")
    folder = write(tmp_path / "data" / "train", wav_scp=f"a {path}\n", text="a HELLO\n")
    (found,), _ = corpus(folder).utterances()
    assert found.audio_filepath == path


def test_cat_of_a_file_is_that_file(tmp_path):
    path = write_ramp(tmp_path / "a.wav")
    folder = write(tmp_path / "data" / "train", wav_scp=f"a cat {path} |\n", text="a HELLO\n")
    (found,), errors = corpus(folder).utterances()
    assert not errors
    assert found.audio_filepath == path


def test_a_command_is_refused_with_what_to_do(tmp_path):
    (error,) = broken(tmp_path, "wav_scp", "r sox r.wav -t wav - |\n")
    assert error == (
        f"{tmp_path / 'wav.scp'}:1: a recording must be a file; got the command "
        "'sox r.wav -t wav - |' (--kaldi.commands run runs commands; run only what you trust)"
    )


def piped(source: Path, command: str, **tables: str) -> Kaldi:
    """A data folder in `source/data`, whose recording "r" a command writes."""
    write_ramp(source / "ramp.wav")
    tables = {"segments": "u1 r 0 0.5\nu2 r 0.7 -1\n", "text": "u1 ONE\nu2 TWO\n", **tables}
    write(source / "data" / "train", wav_scp=f"r {command} |\n", **tables)
    return corpus(source / "data", commands="run")


def test_a_command_runs_beside_the_folder_of_data_folders(tmp_path):
    reader = piped(tmp_path, "cat < ramp.wav")
    listed, errors = reader.utterances()
    assert not errors
    first, second = reader.samples(listed)
    np.testing.assert_array_equal(first, np.arange(500))
    np.testing.assert_array_equal(second, np.arange(700, 1000))
    assert [entry.audio_filepath for entry in listed] == [None, None]


def test_a_command_runs_once_for_all_segments_in_its_output(tmp_path):
    reader = piped(tmp_path, "echo x >> runs && cat < ramp.wav")
    list(reader.samples(reader.utterances()[0]))
    assert (tmp_path / "runs").read_text() == "x\n"


def test_listing_runs_no_command(tmp_path):
    piped(tmp_path, "touch ran").utterances()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "echo starting >&2; echo no such disk >&2; exit 3",
            r"exit 3 \|: .* run in .*, it ended with 3: no such disk$",
        ),
        ("echo hello", r"echo hello \|: must be audio"),
        ("true", r"train/text:[12]: true \|: must "),
    ],
)
def test_what_is_wrong_with_the_output_of_a_command_is_named(tmp_path, command, message):
    reader = piped(tmp_path, command)
    for problem in reader.samples(reader.utterances()[0]):
        assert isinstance(problem, CorpusError)
        assert re.search(message, str(problem))


def test_a_segment_must_lie_in_what_the_command_writes(tmp_path):
    reader = piped(tmp_path, "cat < ramp.wav", segments="u1 r 0 1.5\nu2 r 1 -1\n")
    listed, _ = reader.utterances()
    over, none = reader.samples(listed)
    assert re.search("text:1: cat .* got 0.0 s and 1.5 s of 1.0 s$", str(over))
    assert re.search("text:2: cat .* got 1.0 s and all that follows of 1.0 s$", str(none))


def test_the_output_of_a_command_is_read_as_the_settings_say(tmp_path):
    write_wav(tmp_path / "two.wav", np.array([[1, 5], [2, 6]], np.int16), RATE)
    piped(tmp_path, "cat < two.wav", segments="u1 r 0 -1\n", text="u1 ONE\n")
    settings = AudioReader(sample_rate=RATE, settings=AudioConfig(channel="right"))
    reader = Kaldi(KaldiConfig(commands="run"), (), tmp_path / "data", settings)
    (samples,) = reader.samples(reader.utterances()[0])
    np.testing.assert_array_equal(samples, [5, 6])


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("wav_scp", "r\n", "wav.scp:1: a recording must have a path; r has none"),
        ("wav_scp", "r |\n", "wav.scp:1: a recording must have a path; r has none"),
        ("wav_scp", "r x.wav\n", "wav.scp:1: a recording must be a file; there is no x.wav, "),
        ("wav_scp", "r x.ark:17\n", "wav.scp:1: .* a place in an archive, x.ark:17 "),
        ("wav_scp", "r r.wav\nr x.wav\n", "wav.scp:2: .* given once; r is also at .*scp:1"),
        ("wav_scp", "r r.wav\nq r.wav\n", "wav.scp:2: a recording must have segments; q has"),
        ("segments", "u1 r 0 1\nu2 r 1\n", "segments:2: .* a start and an end; got 3 fields"),
        ("segments", "u1 r 0 1\nu2 r 1 2 A\n", "segments:2: .* a start and an end; got 5 "),
        ("segments", "u1 r 0 1\nu2 q 1 2\n", "segments:2: .* must be in wav.scp; q is not"),
        ("segments", "u1 r 0 1\nu2 r 0.5 0.5\n", "segments:2: .* end after .* 0.5 to 0.5"),
        ("segments", "u1 r 0 1\nu2 r -1 0.5\n", "segments:2: .* start at 0 s .* -1 to 0.5"),
        ("segments", "u1 r 0 1\nu2 r 2 -1\n", "segments:2: .* got 2 to -1"),
        ("segments", "u1 r 0 1\nu2 r 0 one\n", "segments:2: .* must be seconds; got one"),
        ("segments", "u1 r 0 1\nu2 r 0 inf\n", "segments:2: .* must be seconds; got inf"),
        ("segments", "u1 r 0 1\n", "text:2: a transcript must have audio; u2 has none"),
        ("text", "u1 ONE\n", "segments:2: audio must have a line in text; u2 has none"),
        ("text", "u1 ONE\nu2\n", "text:2: a transcript must have text; u2 has none"),
        ("text", "u1 A\nu2 B\nu1 C\n", "text:3: .* given once; u1 is also at .*text:1"),
        ("utt2spk", "u1 ada\n", "text:2: .* a speaker in utt2spk; u2 has none"),
        ("utt2spk", "u1 ada\nu2\n", "utt2spk:2: .* one speaker; u2 has ''"),
        ("utt2spk", "u1 ada\nu2 bo x\n", "utt2spk:2: .* one speaker; u2 has 'bo x'"),
    ],
)
def test_what_is_wrong_with_a_line_is_named_once(tmp_path, table, text, message):
    (error,) = broken(tmp_path, table, text)
    assert re.match(f"{tmp_path}/{message}", error)


def test_a_recording_without_a_transcript_is_named(tmp_path):
    write(small(tmp_path) / "train", text="a1 HELLO\n")
    _, (error,) = corpus(tmp_path, "train").utterances()
    assert str(error).endswith("train/wav.scp:2: audio must have a line in text; a2 has none")


def test_a_line_that_is_no_utf_8_is_named(tmp_path):
    folder = small(tmp_path) / "train"
    (folder / "text").write_bytes(b"a1 HELLO\na2 CAF\xc9\n")
    _, errors = corpus(folder).utterances()
    assert str(errors[0]).startswith(f"{folder / 'text'}:2: must be UTF-8")


def test_an_id_of_other_characters_is_named(tmp_path):
    write_ramp(tmp_path / "a.wav")
    folder = write(tmp_path / "data" / "train", wav_scp="a/b a.wav\n", text="a/b HELLO\n")
    listed, (error,) = corpus(folder).utterances()
    assert not listed
    assert str(error).startswith(f"{folder / 'text'}:1: an id must be letters")


def test_a_segment_to_the_end_of_what_is_no_audio_is_named(tmp_path):
    (small(tmp_path) / "wav" / "talk.wav").write_bytes(b"broken")
    listed, (error,) = corpus(tmp_path, "dev").utterances()
    assert [entry.utterance_id for entry in listed] == ["talk-2"]
    assert re.search("segments:2: .*talk.wav: must be audio", str(error))


def test_subsets_that_are_missing_are_named_with_those_there(tmp_path):
    with pytest.raises(ValueError, match="which has dev, train; got test, lang"):
        corpus(small(tmp_path), "train", "test", "lang").utterances()


def test_subsets_of_a_single_data_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="source is one of them; got subsets=train"):
        corpus(small(tmp_path) / "train", "train").utterances()


def test_a_data_folder_whose_name_does_not_tell_is_named(tmp_path):
    os.rename(small(tmp_path) / "dev", tmp_path / "callhome")
    with pytest.raises(ValueError, match=r"got callhome .*--subsets"):
        corpus(tmp_path).utterances()


def test_an_excerpt_beside_the_whole_is_refused(tmp_path):
    write(small(tmp_path) / "train_short", wav_scp="a1 wav/a1.wav\n", text="a1 HELLO WORLD\n")
    with pytest.raises(ValueError, match="train and train_short share 1 of 1, such as a1"):
        corpus(tmp_path).utterances()


def test_a_folder_without_data_folders_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"wav\.scp and text, .* got source={tmp_path}"):
        corpus(tmp_path).utterances()


def test_a_data_folder_without_text_is_refused(tmp_path):
    (small(tmp_path) / "train" / "text").unlink()
    with pytest.raises(ValueError, match="train/text: a data folder must have"):
        corpus(tmp_path).utterances()
