import numpy as np
import pytest

from tfasr.text.arpa import NgramOrder, arpa_words, read_arpa, write_arpa

# "b" stands before "a", so that the n-grams of the file are not sorted by index.
TEXT = """A comment.

\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-99 <s> -0.25
-0.5\tb\t-0.125
-0.75\ta
-1\t</s>

\\2-grams:
-0.5\ta b
-0.25\t<s> a
-0.125\tb </s>

\\end\\
"""


def write(tmp_path, text: str):
    path = tmp_path / "lm.arpa"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_are_numbered_as_they_stand_in_the_file(tmp_path):
    assert read_arpa(write(tmp_path, TEXT)).words == ["<s>", "b", "a", "</s>"]


def test_ngrams_are_sorted_by_context_and_word(tmp_path):
    level = read_arpa(write(tmp_path, TEXT)).orders[1]
    assert list(zip(level.contexts, level.words, strict=True)) == [(0, 2), (1, 3), (2, 1)]
    assert level.log_probabilities.tolist() == [-0.25, -0.125, -0.5]


def test_a_backoff_that_is_not_there_is_0(tmp_path):
    level = read_arpa(write(tmp_path, TEXT)).orders[0]
    assert level.backoffs.tolist() == [-0.25, -0.125, 0.0, 0.0]


def test_what_is_written_is_read_again(tmp_path):
    arpa = read_arpa(write(tmp_path, TEXT))
    write_arpa(tmp_path / "b.arpa", arpa.words, [4, 3], arpa.orders)
    again = read_arpa(tmp_path / "b.arpa")
    assert again.words == arpa.words
    for one, other in zip(arpa.orders, again.orders, strict=True):
        for name in NgramOrder.__annotations__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_written_text_by_hand(tmp_path):
    zero = np.zeros(1, np.int64)
    unigrams = NgramOrder(zero, zero, np.array([-0.5]), np.array([-0.25]))
    bigrams = NgramOrder(zero, zero, np.array([-1 / 3]), np.array([0.0]))
    write_arpa(tmp_path / "a.arpa", ["a"], [1, 1], [unigrams, bigrams])
    assert (tmp_path / "a.arpa").read_text() == (
        "\\data\\\nngram 1=1\nngram 2=1\n\n\\1-grams:\n-0.5\ta\t-0.25\n"
        "\n\\2-grams:\n-0.3333333\ta a\n\n\\end\\\n"
    )


def test_a_file_is_not_left_half_written(tmp_path):
    def orders():
        yield NgramOrder(*[np.zeros(1, np.int64)] * 4)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        write_arpa(tmp_path / "a.arpa", ["a"], [1, 1], orders())
    assert list(tmp_path.iterdir()) == []


def test_pieces_with_a_space_are_the_unknown_word():
    assert arpa_words([" ⁇ ", "▁a", "b"]) == ["<unk>", "▁a", "b"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.arpa: no such language model"):
        read_arpa(tmp_path / "none.arpa")


FAULTS = {
    "no counts": ("ngram 1=4\nngram 2=3\n", "", r"lm\.arpa:5: must be ngram 1=COUNT"),
    "orders out of order": ("ngram 2=3", "ngram 3=3", "5: must be ngram 2=COUNT; got ngram 3=3"),
    "a count that is none": ("ngram 2=3", "ngram 2=x", "5: must be ngram 2=COUNT"),
    "another section": ("\\2-grams:", "\\3-grams:", r"13: must be \\2-grams:; got \\3"),
    "a short section": ("-1\t</s>\n", "", r"12: must have 4 1-grams, as \\data\\ says, not 3"),
    "a long section": ("ngram 1=4", "ngram 1=3", r"11: must be \\2-grams:; got -1 </s>"),
    "a word too few": ("\ta b", "\ta", "14: must be a log10 probability, 2 words; got -0.5 a"),
    "a backoff at the top": ("\ta b", "\ta b\t-1", "14: must be a log10 probability, 2 words; "),
    "a word too many": ("\ta\n", "\ta c d\n", "10: must be .* 1 words and perhaps a backoff"),
    "no number": ("-0.75", "O.75", r"10: must have finite numbers; O\.75 is not"),
    "infinity": ("-0.75", "-inf", "10: must have finite numbers; -inf is not"),
    "no probability": ("-0.75", "0.75", "10: a log10 probability must not be above 0"),
    "an unknown word": ("\ta b", "\ta c", "14: each word must be a 1-gram; c is not"),
    "a word twice": ("\ta\n", "\tb\n", "10: an n-gram must stand in the file once"),
    "an n-gram twice": ("b </s>", "a b", "lm.arpa:16: an n-gram must stand in the file once"),
    "no end": ("\\end\\\n", "", r"17: must go on to \\end\\; the file ends here"),
    "no ARPA file": (TEXT, "a\nb\n", r"2: must go on to \\end\\; .* it is no ARPA"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_line(tmp_path, fault):
    old, new, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        read_arpa(write(tmp_path, TEXT.replace(old, new)))


def test_a_context_that_is_no_ngram_is_named_with_its_line(tmp_path):
    more = "\\3-grams:\n-1\t<s> a b\n-1\t<s> b a\n\n\\end\\"
    text = TEXT.replace("\\end\\", more).replace("ngram 2=3\n", "ngram 2=3\nngram 3=2\n")
    message = r"lm\.arpa:21: an n-gram's words but the last must be an n-gram of the order below"
    with pytest.raises(ValueError, match=message):
        read_arpa(write(tmp_path, text))


def test_a_word_that_is_no_utf_8_is_named_with_its_line(tmp_path):
    (tmp_path / "lm.arpa").write_bytes(TEXT.encode().replace(b"\ta\n", b"\t\xff\n"))
    with pytest.raises(ValueError, match=r"lm\.arpa:10: a word must be UTF-8"):
        read_arpa(tmp_path / "lm.arpa")
