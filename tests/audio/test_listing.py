from tfasr.audio.listing import text_lines, with_usable_ids
from tfasr.audio.utterance import CorpusError, Utterance


def entry(utterance_id: str, origin: str) -> Utterance:
    return Utterance(utterance_id=utterance_id, split="train", text="x", origin=origin)


def test_lines_are_numbered_from_one_and_blank_ones_counted_but_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"one\n\n  \r\n two \r\n")
    assert list(text_lines(tmp_path / "a")) == [(1, "one"), (4, "two")]


def test_unicode_separators_end_no_line(tmp_path):
    (tmp_path / "a").write_text("a\u2028b\x85c\nd", encoding="utf-8")
    assert list(text_lines(tmp_path / "a")) == [(1, "a\u2028b\x85c"), (2, "d")]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone")
    assert list(text_lines(tmp_path / "a")) == [(1, "one")]


def test_a_line_that_is_no_utf8_is_an_error_and_the_next_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"caf\xe9\ntwo")
    (_, error), (number, text) = text_lines(tmp_path / "a")
    assert isinstance(error, CorpusError)
    assert str(error).startswith(f"{tmp_path / 'a'}:1: must be UTF-8; ")
    assert (number, text) == (2, "two")


def test_the_first_of_two_equal_ids_is_kept_and_both_places_named():
    usable, errors = with_usable_ids([entry("a", "f:1"), entry("b", "f:2"), entry("a", "f:3")])
    assert [found.origin for found in usable] == ["f:1", "f:2"]
    assert [str(error) for error in errors] == ["f:3: an id must be given once; a is also at f:1"]


def test_an_id_with_a_slash_is_refused():
    usable, errors = with_usable_ids([entry("a/b", "f:1")])
    assert not usable
    assert str(errors[0]).startswith("f:1: an id must be letters, digits")
