from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "LibriSpeech"


def add_chapter(source: Path, subset: str, speaker: str, texts: dict[str, str]) -> Path:
    folder = source / subset / speaker / "7"
    folder.mkdir(parents=True)
    lines = []
    for number, text in texts.items():
        utterance_id = f"{speaker}-7-{number}"
        samples = np.full(20, int(number) + 1, np.int16)
        soundfile.write(folder / f"{utterance_id}.flac", samples, 16000)
        lines.append(f"{utterance_id} {text}")
    (folder / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def corpus(source: Path, *subsets: str, sample_rate: int = 16000) -> LibriSpeech:
    return LibriSpeech(subsets, source, AudioReader(sample_rate=sample_rate))


def small(source: Path) -> Path:
    add_chapter(source, "train", "20", {"0000": "HELLO  WORLD", "0001": "AGAIN"})
    add_chapter(source, "test", "30", {"0000": "BYE"})
    return source


def subsets_of(utterances) -> list[tuple[str, str]]:
    return [(entry.domain, entry.split) for entry in utterances]


def test_an_utterance_says_where_it_comes_from(tmp_path):
    (first, *_), errors = corpus(small(tmp_path)).utterances()
    folder = tmp_path / "train" / "20" / "7"
    assert not errors
    assert first.utterance_id == "20-7-0000"
    assert (first.split, first.speaker, first.domain) == ("train", "20", "train")
    assert first.text == "HELLO  WORLD"
    assert first.audio_filepath == folder / "20-7-0000.flac"
    assert first.origin == f"{folder / '20-7.trans.txt'}:1"


def test_utterances_come_split_by_split_in_order(tmp_path):
    listed, _ = corpus(small(tmp_path)).utterances()
    assert [(entry.split, entry.utterance_id) for entry in listed] == [
        ("train", "20-7-0000"),
        ("train", "20-7-0001"),
        ("test", "30-7-0000"),
    ]


def test_samples_are_those_of_the_utterances_asked_for(tmp_path):
    reader = corpus(small(tmp_path))
    listed, _ = reader.utterances()
    found = list(reader.samples(listed[1:]))
    assert [audio.tolist() for audio in found] == [[2] * 20, [1] * 20]


def test_audio_comes_at_the_configured_rate(tmp_path):
    reader = corpus(small(tmp_path), sample_rate=8000)
    listed, _ = reader.utterances()
    assert [len(audio) for audio in reader.samples(listed)] == [10, 10, 10]


def test_listing_decodes_no_audio(tmp_path):
    small(tmp_path)
    (tmp_path / "train" / "20" / "7" / "20-7-0000.flac").write_bytes(b"broken")
    reader = corpus(tmp_path)
    listed, errors = reader.utterances()
    assert (len(listed), errors) == (3, [])
    broken, *others = reader.samples(listed)
    assert isinstance(broken, CorpusError)
    assert "20-7-0000.flac: must be audio" in str(broken)
    assert [len(audio) for audio in others] == [20, 20]


def test_a_transcript_without_audio_is_named_by_its_line(tmp_path):
    (small(tmp_path) / "train" / "20" / "7" / "20-7-0001.flac").unlink()
    listed, (error,) = corpus(tmp_path).utterances()
    assert len(listed) == 2
    assert str(error).endswith("20-7.trans.txt:2: a transcript must have audio; no 20-7-0001.flac")


def test_audio_without_a_transcript_is_named(tmp_path):
    folder = small(tmp_path) / "train" / "20" / "7"
    (folder / "20-7.trans.txt").write_text("20-7-0001 AGAIN\n", encoding="utf-8")
    listed, (error,) = corpus(tmp_path).utterances()
    assert len(listed) == 2
    assert str(error).endswith(
        "20-7-0000.flac: a recording must have a transcript in 20-7.trans.txt"
    )


def test_a_chapter_without_a_transcript_file_names_every_recording(tmp_path):
    (small(tmp_path) / "train" / "20" / "7" / "20-7.trans.txt").unlink()
    listed, errors = corpus(tmp_path).utterances()
    assert (len(listed), len(errors)) == (1, 2)


def test_a_transcript_without_text_is_named_by_its_line(tmp_path):
    folder = small(tmp_path) / "train" / "20" / "7"
    (folder / "20-7.trans.txt").write_text("20-7-0000 HELLO\n20-7-0001 \n", encoding="utf-8")
    _, (error,) = corpus(tmp_path).utterances()
    assert str(error).endswith("20-7.trans.txt:2: a transcript must have text; 20-7-0001 has none")


def test_a_transcript_that_is_no_utf8_is_named_by_its_line(tmp_path):
    folder = small(tmp_path) / "train" / "20" / "7"
    (folder / "20-7.trans.txt").write_bytes(b"20-7-0000 HELLO\n20-7-0001 CAF\xc9\n")
    _, errors = corpus(tmp_path).utterances()
    assert "20-7.trans.txt:2: must be UTF-8" in str(errors[0])


def test_a_recording_with_two_transcripts_keeps_the_first(tmp_path):
    folder = small(tmp_path) / "train" / "20" / "7"
    lines = "20-7-0000 ONE\n20-7-0001 TWO\n20-7-0000 THREE\n"
    (folder / "20-7.trans.txt").write_text(lines, encoding="utf-8")
    listed, (error,) = corpus(tmp_path).utterances()
    assert [entry.text for entry in listed] == ["ONE", "TWO", "BYE"]
    assert "20-7.trans.txt:3: an id must be given once" in str(error)


def test_the_name_of_a_subset_tells_its_split(tmp_path):
    names = [
        *("train-clean-100", "train-clean-360", "train-other-500"),
        *("dev-clean", "dev-other", "test-clean", "test-other"),
    ]
    for speaker, name in enumerate(names):
        add_chapter(tmp_path, name, str(speaker), {"0000": "A"})
    listed, _ = corpus(tmp_path).utterances()
    splits = ["train"] * 3 + ["valid"] * 2 + ["test"] * 2
    assert subsets_of(listed) == list(zip(names, splits, strict=True))


def test_subsets_that_are_named_are_taken_alone(tmp_path):
    for speaker, name in enumerate(("train-a", "train-b", "dev-a", "test-a")):
        add_chapter(tmp_path, name, str(speaker), {"0000": "A"})
    listed, _ = corpus(tmp_path, "test-a", "train-b").utterances()
    assert subsets_of(listed) == [("train-b", "train"), ("test-a", "test")]


def test_a_folder_without_chapters_is_no_subset(tmp_path):
    (small(tmp_path) / "notes" / "old").mkdir(parents=True)
    listed, _ = corpus(tmp_path).utterances()
    assert {entry.domain for entry in listed} == {"train", "test"}


def test_a_subset_whose_name_tells_nothing_is_named(tmp_path):
    add_chapter(small(tmp_path), "mine", "40", {"0000": "A"})
    with pytest.raises(ValueError, match=r"must tell what it is for, .*; got mine "):
        corpus(tmp_path).utterances()
    assert len(corpus(tmp_path, "train").utterances()[0]) == 2


def test_a_missing_subset_is_named_with_those_that_exist(tmp_path):
    with pytest.raises(ValueError, match=r"has test, train, and subsets=dev-clean$"):
        corpus(small(tmp_path), "train", "dev-clean").utterances()


def test_a_source_that_is_itself_a_subset_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"SPEAKER/CHAPTER/\*\.flac .*train, which has none$"):
        corpus(small(tmp_path) / "train").utterances()


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ValueError, match="source must be the folder of the subsets; got source="):
        corpus(tmp_path / "none").utterances()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/LibriSpeech")
def test_recorded_librispeech_has_150_readers_and_40_test_utterances():
    reader = corpus(SHARED)
    listed, errors = reader.utterances()
    counts = {s: sum(entry.split == s for entry in listed) for s in ("train", "valid", "test")}
    assert not errors
    assert counts == {"train": 150, "valid": 0, "test": 40}
    audio = next(reader.samples(listed))
    expected, _ = soundfile.read(listed[0].audio_filepath, dtype="int16")
    np.testing.assert_array_equal(audio, expected)
