import pytest

from tfasr.serving.token import is_bearer, read_token

TOKEN = "0123456789abcdef"


def test_a_token_is_the_one_line_of_its_file(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 characters"),
        (b"short", "must be 16 to 256 letters.*got 5 characters"),
        (b"two words of it are too many", "got 28 characters"),
        (b"\xff" * 20, "it is not ASCII"),
    ],
)
def test_a_file_without_a_token_is_refused_without_telling_it(tmp_path, content, message):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_token(tmp_path / "token")
    assert content.decode("latin-1") not in str(refusal.value) or not content


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent: must be a file that holds a token; No such"):
        read_token(tmp_path / "absent")


@pytest.mark.parametrize(
    ("header", "right"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("", False),
        ("Bearer ", False),
        (f"Bearer {TOKEN}0", False),
        (f"Bearer {TOKEN[:-1]}\u00e9", False),
        ("Bearer \ud800", False),
    ],
)
def test_only_the_whole_token_of_the_right_scheme_counts(header, right):
    assert is_bearer(header, TOKEN) is right
