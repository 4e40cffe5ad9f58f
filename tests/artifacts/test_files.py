import hashlib
import json
import resource

import pytest

from tfasr.artifacts.files import (
    append_json_line,
    atomic_path,
    names_the_full,
    read_json,
    read_json_lines,
    sha256_of,
    write_bytes,
    write_json,
    write_json_lines,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half_a_file(path):
    with atomic_path(path) as staged:
        staged.write_text("half")
        raise RuntimeError("half way")


def write_half_a_folder(path):
    with atomic_path(path) as staged:
        staged.mkdir()
        (staged / "half.txt").write_text("half")
        raise RuntimeError("half way")


def test_a_file_takes_its_name_when_the_block_succeeds(tmp_path):
    with atomic_path(tmp_path / "new" / "a.txt") as staged:
        staged.write_text("new")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "new"
    assert names(tmp_path / "new") == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        write_half_a_file(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_folder_and_no_litter(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old.txt").write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        write_half_a_folder(tmp_path / "data")
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["old.txt"]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_with_all_that_it_held(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "old.txt").write_text("old")
    with atomic_path(tmp_path / "data") as staged:
        (staged / "shards").mkdir(parents=True)
        (staged / "shards" / "new.txt").write_text("new")
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["shards"]
    assert (tmp_path / "data" / "shards" / "new.txt").read_text() == "new"


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old.txt").write_text("old")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "data", "new")
    assert names(tmp_path / "data") == ["old.txt"]


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "naïve 語")
    assert (tmp_path / "a.txt").read_bytes() == "naïve 語".encode()


def test_json_is_indented_with_its_letters_kept(tmp_path):
    write_json(tmp_path / "a.json", {"wer": 0.5, "text": "é"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == (
        '{\n  "wer": 0.5,\n  "text": "é"\n}\n'
    )


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, 2.5, None, True], "b": {"c": "é\u2028"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_what_json_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": {1, 2}})
    assert names(tmp_path) == []


@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b'{"a": "\xff"}'])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: no JSON; "):
        read_json(tmp_path / "a.json")


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [{"text": "é"}, {"text": 'a "b"\nc', "n": 2}, {}]
    write_json_lines(tmp_path / "a.jsonl", rows)
    assert read_json_lines(tmp_path / "a.jsonl") == rows


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1e", "\x0c", "\r"])
def test_only_a_line_feed_ends_a_row(tmp_path, separator):
    rows = [{"text": f"one{separator}two"}, {"text": "three"}]
    write_json_lines(tmp_path / "a.jsonl", rows)
    assert read_json_lines(tmp_path / "a.jsonl") == rows


def test_a_file_without_rows_is_empty(tmp_path):
    write_json_lines(tmp_path / "a.jsonl", [])
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert read_json_lines(tmp_path / "a.jsonl") == []


def test_a_line_is_added_to_a_log_that_need_not_exist(tmp_path):
    append_json_line(tmp_path / "run" / "log.jsonl", {"step": 1})
    append_json_line(tmp_path / "run" / "log.jsonl", {"step": 2, "text": "é"})
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert lines == '{"step": 1}\n{"step": 2, "text": "é"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', r"a\.jsonl:2: no JSON; "),
        ("", r"a\.jsonl:2: no JSON; "),
        ("[1, 2]", r"a\.jsonl:2: must be a JSON object; got \[1, 2\]"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(f'{{"a": 0}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(ValueError, match=message):
        read_json_lines(tmp_path / "a.jsonl")


def test_rows_that_are_no_utf_8_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl"):
        read_json_lines(tmp_path / "a.jsonl")


def test_rows_that_fail_half_way_leave_the_old_file(tmp_path):
    write_json_lines(tmp_path / "a.jsonl", [{"a": 1}])
    with pytest.raises(TypeError):
        write_json_lines(tmp_path / "a.jsonl", [{"a": 2}, {"a": {3}}])
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"a": 1}


def test_rows_are_taken_one_by_one(tmp_path):
    def rows():
        for number in range(3):
            (staged,) = tmp_path.glob(".a.jsonl.*/a.jsonl")
            assert staged.exists()
            yield {"n": number}

    write_json_lines(tmp_path / "a.jsonl", rows())
    assert read_json_lines(tmp_path / "a.jsonl") == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.fixture
def no_file_over_1000_bytes():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("no_file_over_1000_bytes")
def test_a_file_that_does_not_fit_is_named_and_not_there(tmp_path):
    with pytest.raises(OSError, match="File too large") as raised:
        write_text(tmp_path / "a.txt", "x" * 2000)
    assert raised.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_another_error_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="gone") as raised, names_the_full(tmp_path / "a"):
        raise OSError("gone")
    assert raised.value.filename is None


def test_the_hash_of_a_file_is_its_sha_256(tmp_path):
    content = b"0123456789" * 200_000  # more than one read
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def folder_of(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize(
    "other",
    [
        {"a": b"1", "b/c": b"3"},
        {"a": b"1", "b/d": b"2"},
        {"a": b"1"},
        {"a": b"1b/c\x002"},
        {"a": b"2", "b/c": b"1"},
    ],
)
def test_the_hash_of_a_folder_tells_names_and_contents_apart(tmp_path, other):
    one = folder_of(tmp_path / "one", {"a": b"1", "b/c": b"2"})
    assert sha256_of(folder_of(tmp_path / "other", other)) != sha256_of(one)


def test_the_hash_of_a_folder_is_that_of_its_copy(tmp_path):
    files = {"a": b"1", "b/c": b"2", "b.d": b"3"}
    copy = folder_of(tmp_path / "two", dict(reversed(files.items())))
    assert sha256_of(copy) == sha256_of(folder_of(tmp_path / "one", files))


def test_bytes_are_written_whole(tmp_path):
    write_bytes(tmp_path / "new" / "file", b"\0\xff")
    assert (tmp_path / "new" / "file").read_bytes() == b"\0\xff"
