from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.utterance import CorpusError
from tfasr.configs.corpora import LibriSpeechConfig

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


def corpus(source: Path, sample_rate: int = 16000, **changes) -> LibriSpeech:
    settings = {"train": ("train",), "test": ("test",), "valid_share": 0.0, **changes}
    return LibriSpeech(LibriSpeechConfig(**settings), source, sample_rate)


def small(source: Path) -> Path:
    add_chapter(source, "train", "20", {"0000": "HELLO  WORLD", "0001": "AGAIN"})
    add_chapter(source, "test", "30", {"0000": "BYE"})
    return source


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


def test_a_missing_subset_is_named_with_those_that_exist(tmp_path):
    with pytest.raises(ValueError, match=r"which has test, train; got dev-clean"):
        corpus(small(tmp_path), valid=("dev-clean",)).utterances()


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ValueError, match="source must be the folder of the subsets; got source="):
        corpus(tmp_path / "none").utterances()


def ten_speakers(source: Path) -> Path:
    for speaker in range(10):
        add_chapter(source, "train", str(speaker), {"0000": "A", "0001": "B"})
    add_chapter(source, "test", "30", {"0000": "C"})
    return source


def test_the_share_of_speakers_is_set_aside_with_all_their_utterances(tmp_path):
    listed, _ = corpus(ten_speakers(tmp_path), valid_share=0.3).utterances()
    speakers = {
        split: {e.speaker for e in listed if e.split == split} for split in ("train", "valid")
    }
    assert len(speakers["valid"]) == 3
    assert not speakers["train"] & speakers["valid"]
    assert sum(entry.split == "valid" for entry in listed) == 6


def test_the_smallest_share_sets_one_speaker_aside(tmp_path):
    listed, _ = corpus(ten_speakers(tmp_path), valid_share=0.001).utterances()
    assert sum(entry.split == "valid" for entry in listed) == 2


def test_the_seed_chooses_the_speakers_and_repeats_its_choice(tmp_path):
    ten_speakers(tmp_path)

    def aside(seed: int) -> set[str]:
        listed, _ = corpus(tmp_path, valid_share=0.3, seed=seed).utterances()
        return {entry.speaker for entry in listed if entry.split == "valid"}

    assert aside(1) == aside(1)
    assert len({frozenset(aside(seed)) for seed in range(5)}) > 1


def test_validation_subsets_leave_the_training_speakers_alone(tmp_path):
    ten_speakers(tmp_path)
    add_chapter(tmp_path, "dev", "40", {"0000": "D"})
    listed, _ = corpus(tmp_path, valid=("dev",), valid_share=0.3).utterances()
    assert [entry.utterance_id for entry in listed if entry.split == "valid"] == ["40-7-0000"]


def test_a_share_that_leaves_no_training_speaker_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got valid_share=0\.05 of 1 speakers"):
        corpus(small(tmp_path), valid_share=0.05).utterances()


def test_a_subset_in_two_splits_is_refused():
    with pytest.raises(ValueError, match="a subset must be given once, in one split"):
        LibriSpeechConfig(train=("a",), test=("a",))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/LibriSpeech")
def test_recorded_librispeech_has_150_readers_and_40_test_utterances():
    reader = LibriSpeech(LibriSpeechConfig(), SHARED, 16000)
    listed, errors = reader.utterances()
    counts = {s: sum(entry.split == s for entry in listed) for s in ("train", "valid", "test")}
    assert not errors
    assert counts == {"train": 142, "valid": 8, "test": 40}  # 5 % of 150 is 7.5, to even
    audio = next(reader.samples(listed))
    expected, _ = soundfile.read(listed[0].audio_filepath, dtype="int16")
    np.testing.assert_array_equal(audio, expected)
