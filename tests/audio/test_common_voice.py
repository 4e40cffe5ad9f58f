import re
from pathlib import Path

import numpy as np
import pytest

from tfasr.audio.common_voice import CommonVoice
from tfasr.audio.decoding import write_wav
from tfasr.audio.reading import AudioReader

HEADER = "client_id\tpath\tsentence\tup_votes\taccents\tlocale"


def row(name: str, **changes: str) -> str:
    fields = {"client_id": "ada", "path": f"{name}.wav", "sentence": "Hello.", "up_votes": "2"}
    return "\t".join({**fields, "accents": "", "locale": "en", **changes}.values())


def write(source: Path, **tables: list[str]) -> Path:
    (source / "clips").mkdir(exist_ok=True)
    for subset, rows in tables.items():
        text = "\n".join([HEADER, *rows]) + "\n"
        (source / f"{subset}.tsv").write_text(text, encoding="utf-8")
        for number, line in enumerate(rows, start=1):
            path = source / "clips" / Path(line.split("\t")[1]).name
            write_wav(path, np.full(20 * number, number, np.int16), 16000)
    return source


def corpus(source: Path, *subsets: str) -> CommonVoice:
    return CommonVoice(subsets, source, AudioReader(sample_rate=16000))


def test_a_line_says_all_of_its_utterance(tmp_path):
    (found,), errors = corpus(
        write(tmp_path, train=[row("a1", sentence=" Hi, you! ")])
    ).utterances()
    assert not errors
    assert (found.utterance_id, found.split, found.text) == ("a1", "train", "Hi, you!")
    assert (found.speaker, found.domain) == ("ada", "en")
    assert found.audio_filepath == tmp_path / "clips" / "a1.wav"
    assert found.origin == f"{tmp_path / 'train.tsv'}:2"


def test_train_dev_and_test_are_taken_and_no_other_table(tmp_path):
    tables = {name: [row(name)] for name in ("test", "dev", "train", "other", "invalidated")}
    listed, _ = corpus(write(tmp_path, **tables)).utterances()
    assert [(entry.utterance_id, entry.split) for entry in listed] == [
        ("train", "train"),
        ("dev", "valid"),
        ("test", "test"),
    ]


def test_validated_trains_where_it_is_asked_for(tmp_path):
    write(tmp_path, train=[row("a")], validated=[row("a"), row("b")])
    listed, _ = corpus(tmp_path, "validated").utterances()
    assert [(entry.utterance_id, entry.split) for entry in listed] == [
        ("a", "train"),
        ("b", "train"),
    ]


def test_validated_beside_test_is_refused(tmp_path):
    write(tmp_path, test=[row("a")], validated=[row("a"), row("b")])
    with pytest.raises(ValueError, match="validated and test share 1 of 1, such as a"):
        corpus(tmp_path, "validated", "test").utterances()


def test_samples_are_those_of_the_utterances_asked_for(tmp_path):
    reader = corpus(write(tmp_path, train=[row("a"), row("b")]))
    listed, _ = reader.utterances()
    found = list(reader.samples(listed[::-1]))
    assert [audio.tolist() for audio in found] == [[2] * 40, [1] * 20]


def test_columns_may_come_in_any_order_and_the_locale_may_be_missing(tmp_path):
    write(tmp_path, train=[row("a")])
    (tmp_path / "train.tsv").write_text("sentence\tage\tpath\tclient_id\nHi.\t\ta.wav\tbo\n")
    (found,), errors = corpus(tmp_path).utterances()
    assert not errors
    assert (found.text, found.speaker, found.domain) == ("Hi.", "bo", "")


def test_a_quotation_mark_is_a_letter_like_others(tmp_path):
    write(tmp_path, train=[row("a", sentence='"Go!'), row("b", sentence='"Go!"'), row("c")])
    listed, errors = corpus(tmp_path).utterances()
    assert not errors
    assert [entry.text for entry in listed] == ['"Go!', '"Go!"', "Hello."]


def test_a_byte_order_mark_crlf_and_blank_lines_change_nothing(tmp_path):
    table = write(tmp_path, train=[row("a")]) / "train.tsv"
    text = table.read_text().replace("\n", "\r\n") + "\r\n"
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (found,), errors = corpus(tmp_path).utterances()
    assert not errors
    assert (found.utterance_id, found.domain) == ("a", "en")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row("a", sentence="one\ttwo"), "a line must have 6 fields .*; got 7"),
        (row("a", sentence='"""Go,"" he said."'), 'doubled quotes; got """Go,"" he said."'),
        (row("a", sentence=" "), "'sentence' must not be empty"),
        (row("a", path="../a.wav"), r"a file in clips; got '../a.wav'"),
        (row("a", path="/etc/passwd"), "a file in clips; got '/etc/passwd'"),
        (row("a", path=""), "a file in clips; got ''"),
        (row("a", path="b.wav"), "there is no .*clips/b.wav"),
        (row("a", path="good.wav"), r"an id must be given once; good is also at .*train\.tsv:2"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(tmp_path, line, message):
    table = write(tmp_path, train=[row("good"), row("a")]) / "train.tsv"
    table.write_text("\n".join([HEADER, row("good"), line]), encoding="utf-8")
    listed, (error,) = corpus(tmp_path).utterances()
    assert [entry.utterance_id for entry in listed] == ["good"]
    assert str(error).startswith(f"{table}:3: ")
    assert re.search(message, str(error))


def test_a_line_that_is_no_utf_8_is_named(tmp_path):
    table = write(tmp_path, train=[row("a"), row("b", sentence="caf?")]) / "train.tsv"
    table.write_bytes(table.read_bytes().replace(b"caf?", b"caf\xe9"))
    listed, (error,) = corpus(tmp_path).utterances()
    assert [entry.utterance_id for entry in listed] == ["a"]
    assert str(error).startswith(f"{table}:3: must be UTF-8")


def test_a_table_without_a_column_is_named(tmp_path):
    table = write(tmp_path, dev=[row("a")]) / "dev.tsv"
    table.write_text("path\tsentence\na.wav\tHi.\n")
    with pytest.raises(ValueError, match=f"{table}:1: .* got no client_id"):
        corpus(tmp_path).utterances()


def test_subsets_that_are_missing_are_named_with_those_there(tmp_path):
    write(tmp_path, dev=[row("a")], train=[row("b")])
    with pytest.raises(ValueError, match="which has dev, train; got test, evl"):
        corpus(tmp_path, "train", "test", "evl").utterances()


def test_a_subset_that_was_not_validated_is_refused(tmp_path):
    write(tmp_path, invalidated=[row("a")])
    with pytest.raises(ValueError, match="got invalidated"):
        corpus(tmp_path, "invalidated").utterances()


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"of one language.* got source={tmp_path}"):
        corpus(tmp_path).utterances()
