import hashlib
from collections.abc import Iterable

import numpy as np
import pytest

from tfasr.audio.splits import Divided, shared_speakers
from tfasr.audio.utterance import SPLITS, CorpusError, Segment, Utterance
from tfasr.configs.corpora import SplitConfig


class Listed:
    """A corpus of one-sample utterances, written as "split speaker id"."""

    def __init__(self, lines: Iterable[str], errors: Iterable[CorpusError] = ()) -> None:
        self.lines = [line.split(" ") for line in lines]
        self.errors = list(errors)

    def utterances(self):
        listed = [
            Utterance(utterance_id=name, split=split, text="x", speaker=speaker, origin=f"c:{line}")
            for line, (split, speaker, name) in enumerate(self.lines, start=1)
        ]
        return listed, self.errors

    def samples(self, utterances):
        for utterance in utterances:
            yield np.array([len(utterance.utterance_id)], np.int16)


def speakers_of(count: int, split: str = "train") -> list[str]:
    """Two utterances of each of so many speakers."""
    return [f"{split} s{i:03d} s{i:03d}-{part}" for i in range(count) for part in "ab"]


def divide(lines: Iterable[str], **settings) -> list[Utterance]:
    listed, errors = Divided(Listed(lines), SplitConfig(**settings)).utterances()
    assert not errors
    return listed


def ids(utterances: Iterable[Utterance]) -> dict[str, list[str]]:
    listed = list(utterances)
    return {
        split: [entry.utterance_id for entry in listed if entry.split == split]
        for split in SPLITS
        if any(entry.split == split for entry in listed)
    }


def speakers(utterances: Iterable[Utterance], split: str) -> set[str]:
    return {entry.speaker for entry in utterances if entry.split == split}


def test_the_order_errors_and_samples_are_those_of_the_corpus():
    error = CorpusError("c:9: bad")
    corpus = Listed(["train b 22", "train a 1", "train b 333"], [error])
    divided = Divided(corpus, SplitConfig(by="hash", valid_share=0.5))
    listed, errors = divided.utterances()
    assert [entry.utterance_id for entry in listed] == ["22", "1", "333"]
    assert errors == [error]
    assert [audio.tolist() for audio in divided.samples(listed[1:])] == [[1], [3]]


def test_a_part_of_a_recording_stays_one():
    class Parts(Listed):
        def utterances(self):
            part = {"text": "x", "offset": 1.0, "duration": 2.0}
            return [
                Segment(utterance_id=name, split="test", speaker=name, **part) for name in "abc"
            ], []

    listed, _ = Divided(Parts([]), SplitConfig(by="speaker")).utterances()
    assert {(entry.offset, entry.duration) for entry in listed} == {(1.0, 2.0)}


def test_a_corpus_with_validation_keeps_its_division():
    lines = ["train a 1", "train b 2", "valid c 3", "test d 4"]
    assert ids(divide(lines)) == {"train": ["1", "2"], "valid": ["3"], "test": ["4"]}


def test_a_corpus_that_names_its_splits_may_share_speakers():
    listed = divide(["train a 1", "valid a 2", "test b 3", "train b 4"])
    assert shared_speakers(listed) == ["a", "b"]


def test_a_corpus_without_validation_sets_whole_training_speakers_aside():
    listed = divide([*speakers_of(10), "test t t-a"], valid_share=0.3)
    assert len(speakers(listed, "valid")) == 3
    assert len(speakers(listed, "train")) == 7
    assert shared_speakers(listed) == []
    assert ids(listed)["test"] == ["t-a"]


def test_the_smallest_share_sets_one_speaker_aside():
    assert len(ids(divide(speakers_of(10), valid_share=0.001))["valid"]) == 2


def test_of_two_speakers_one_validates():
    assert {len(found) for found in ids(divide(["train a 1", "train b 2"])).values()} == {1}


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        (["train a 1", "train a 2"], {}),
        (["train  1", "train  2"], {}),
        (["train a 1", "train  2"], {}),
        (["test a 1", "test b 2"], {}),
        (["train a 1", "train b 2"], {"valid_share": 0.0}),
    ],
)
def test_nobody_is_set_aside_where_that_cannot_be_or_is_not_wanted(lines, settings):
    assert "valid" not in ids(divide(lines, **settings))


def test_utterances_of_nobody_go_on_training_when_speakers_are_set_aside():
    listed = divide(["train a 1", "train b 2", "train  3"], valid_share=0.5)
    assert "3" in ids(listed)["train"]


def test_the_seed_chooses_the_speakers_and_repeats_its_choice():
    def aside(seed: int, by: str) -> frozenset[str]:
        return frozenset(
            speakers(divide(speakers_of(20), by=by, valid_share=0.3, seed=seed), "valid")
        )

    for by in ("corpus", "speaker", "hash"):
        assert aside(1, by) == aside(1, by)
        assert len({aside(seed, by) for seed in range(5)}) > 1


def test_drawn_shares_are_counted_in_speakers():
    listed = divide(speakers_of(20, "test"), by="speaker", valid_share=0.1, test_share=0.25)
    assert [len(speakers(listed, split)) for split in SPLITS] == [13, 2, 5]
    assert shared_speakers(listed) == []


def test_the_draw_does_not_depend_on_the_order_of_the_corpus():
    there = divide(speakers_of(20), by="speaker", valid_share=0.3)
    back = divide(speakers_of(20)[::-1], by="speaker", valid_share=0.3)
    assert speakers(there, "valid") == speakers(back, "valid")


def test_a_draw_of_speakers_nobody_knows_says_what_to_do():
    with pytest.raises(ValueError, match=r"c:2: .* got 1 utterances .*--splits\.by hash"):
        divide(["train a 1", "train  2"], by="speaker")


def test_a_draw_with_shared_speakers_divides_utterances():
    listed = divide([*speakers_of(1), "train  x"], by="speaker", shared_speakers=True)
    assert {split: len(found) for split, found in ids(listed).items()} == {"train": 2, "valid": 1}


@pytest.mark.parametrize("by", ["corpus", "speaker"])
def test_a_share_that_leaves_nobody_to_train_is_refused(by):
    with pytest.raises(ValueError, match=r"got splits\.valid_share=0\.9 of 2"):
        divide(speakers_of(2), by=by, valid_share=0.9)


def test_a_hash_decides_by_the_speaker_alone():
    listed = divide(speakers_of(300), by="hash", valid_share=0.2, test_share=0.1, seed=7)

    def place(speaker: str) -> float:
        digest = hashlib.sha256(f"7/splits/hash/speaker {speaker}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32

    for entry in listed:
        below, above = place(entry.speaker) < 0.1, place(entry.speaker) >= 0.8
        assert entry.split == ("test" if below else "valid" if above else "train")
    # 60 and 30 expected, standard deviations 6.9 and 5.2.
    assert 40 < len(speakers(listed, "valid")) < 80
    assert 15 < len(speakers(listed, "test")) < 45


def test_a_growing_corpus_moves_nobody():
    few = divide(speakers_of(40), by="hash", valid_share=0.2)
    many = divide(speakers_of(80)[::-1], by="hash", valid_share=0.2)
    where = {entry.utterance_id: entry.split for entry in many}
    assert all(where[entry.utterance_id] == entry.split for entry in few)


def test_a_larger_test_share_leaves_validation_alone():
    small = divide(speakers_of(80), by="hash", valid_share=0.2, test_share=0.1)
    large = divide(speakers_of(80), by="hash", valid_share=0.2, test_share=0.5)
    assert speakers(small, "valid") == speakers(large, "valid")
    assert speakers(small, "test") < speakers(large, "test")


def test_utterances_of_nobody_are_hashed_by_their_ids():
    listed = divide([f"train  {i}" for i in range(200)], by="hash", valid_share=0.5)
    assert 70 < len(ids(listed)["valid"]) < 130  # 100 expected, standard deviation 7.1


def test_a_hash_with_shared_speakers_divides_utterances():
    lines = [f"train ann {i}" for i in range(50)]
    assert list(ids(divide(lines, by="hash", valid_share=0.5))) in (["train"], ["valid"])
    listed = divide(lines, by="hash", valid_share=0.5, shared_speakers=True)
    assert shared_speakers(listed) == ["ann"]


def test_lists_name_ids_or_speakers_and_the_others_train(tmp_path):
    valid, test = tmp_path / "valid.txt", tmp_path / "test.txt"
    valid.write_text("a\n\n  4 \n", encoding="utf-8")
    test.write_text("é\n", encoding="utf-8")
    lines = ["test a 1", "train a 2", "valid é 3", "valid  4", "test b 5"]
    listed = divide(lines, by="list", valid_list=valid, test_list=test)
    assert ids(listed) == {"train": ["5"], "valid": ["1", "2", "4"], "test": ["3"]}


def test_a_line_of_a_list_that_is_nobodys_is_named(tmp_path):
    path = tmp_path / "valid.txt"
    path.write_bytes(b"a\nzoe\ncaf\xe9\n")
    divided = Divided(Listed(["train a 1", "train b 2"]), SplitConfig(by="list", valid_list=path))
    listed, errors = divided.utterances()
    assert ids(listed) == {"train": ["2"], "valid": ["1"]}
    assert [str(error) for error in errors] == [
        f"{path}:2: must be an id or a speaker of the corpus; got zoe",
        f"{path}:3: must be UTF-8; unexpected end of data",
    ]


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"splits\.test_list must be a file; got .*none\.txt"):
        divide(["train a 1"], by="list", test_list=tmp_path / "none.txt")


def test_a_list_that_parts_a_speaker_is_refused(tmp_path):
    path = tmp_path / "valid.txt"
    path.write_text("1\n", encoding="utf-8")
    lines = ["train ann 1", "train ann 2"]
    with pytest.raises(ValueError, match=r"got speaker ann in train and valid.*shared_speakers"):
        divide(lines, by="list", valid_list=path)
    shared = divide(lines, by="list", valid_list=path, shared_speakers=True)
    assert ids(shared) == {"train": ["2"], "valid": ["1"]}


def test_an_utterance_in_both_lists_is_refused(tmp_path):
    valid, test = tmp_path / "valid.txt", tmp_path / "test.txt"
    valid.write_text("1\n", encoding="utf-8")
    test.write_text("ann\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"c:1: .* got 1 of speaker ann in both"):
        divide(["train ann 1", "train bob 2"], by="list", valid_list=valid, test_list=test)


def test_nobody_shares_nothing():
    assert shared_speakers(divide(["train  1", "test  2", "valid  3"])) == []


@pytest.mark.parametrize("by", ["corpus", "speaker", "hash"])
def test_an_empty_corpus_stays_empty(by):
    assert divide([], by=by, valid_share=0.5) == []
