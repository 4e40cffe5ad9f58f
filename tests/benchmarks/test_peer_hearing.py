import numpy as np
import pytest

peer_hearing = pytest.importorskip(
    "benchmarks.peer_hearing",
    reason="benchmarks are importable from the repository's own folder only",
)


def test_a_path_is_collapsed_and_its_pieces_joined():
    pieces = ["\N{LOWER ONE EIGHTH BLOCK}a", "b"]
    path = np.array([2, 0, 0, 2, 0, 1, 1, 2])
    assert peer_hearing.text_of(path, pieces) == "a ab"


def test_silence_is_no_text():
    assert peer_hearing.text_of(np.array([1, 1, 1]), ["a"]) == ""
