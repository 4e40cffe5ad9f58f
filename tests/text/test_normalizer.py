import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfasr.text.normalizer import normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Turn ON the Light", "turn on the light"),
        ("\uff21\uff22\u3000\uff11\uff12", "ab 12"),
        ("\uff76\uff9e\uff77", "ガキ"),
        ("cafe\u0301", "caf\u00e9"),
        ("ﬁve ²", "five 2"),
        ("  a\t\tb\nc\u00a0d\u2028e ", "a b c d e"),
        ("ΔΣ", "δς"),
        ("ÄÖÜ", "äöü"),
        ("", ""),
        (" \u3000 ", ""),
    ],
)
def test_examples(text, expected):
    assert normalise(text) == expected


# No capital J with a caron exists as one letter, a small one does.
@example("J\u030c")
@settings(derandomize=True)
@given(st.text())
def test_normal_text_is_left_as_it_is(text):
    once = normalise(text)
    assert normalise(once) == once
