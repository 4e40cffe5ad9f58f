import numpy as np

from tfasr.serving.answers import join_answers, split_batch

OUTPUTS = {
    "text": np.array([b"a b", b"\xc3\xa9", b""], object),
    "tokens": np.array([[0, 7, 0], [3, -1, -1], [-1, -1, -1]], np.int32),
    "starts": np.array([[0.0, 0.5], [0.25, np.nan], [-1.0, -1.0]], np.float32),
    "words": np.array([[b"a", b"b"], ["é".encode(), b""], [b"", b""]], object),
    "score": np.array([-0.5, -2.0, 0.0], np.float32),
}


def plain(answer):
    return {name: getattr(value, "tolist", lambda v=value: v)() for name, value in answer.items()}


def test_each_utterance_gets_its_own_without_the_padding_of_the_batch():
    first, second, third = map(plain, split_batch(OUTPUTS))
    assert first == {
        "text": "a b",
        "tokens": [0, 7, 0],
        "starts": [0.0, 0.5],
        "words": [b"a", b"b"],
        "score": -0.5,
    }
    assert (second["text"], second["tokens"], second["starts"]) == ("é", [3], [0.25])
    assert (third["text"], third["tokens"], third["words"]) == ("", [], [])


def test_a_model_that_gives_text_alone_has_text_alone():
    assert split_batch({"text": np.array([b"x"], object)}) == [{"text": "x"}]


def test_answers_of_one_request_are_padded_to_the_longest_of_them():
    columns = join_answers(split_batch(OUTPUTS)[1:])
    assert columns["tokens"].tolist() == [[3], [-1]]
    assert columns["starts"].tolist() == [[0.25], [-1.0]]
    assert columns["words"].tolist() == [["é".encode()], [b""]]
    assert columns["text"].tolist() == ["é".encode(), b""]
    assert columns["score"].tolist() == [-2.0, 0.0]
    assert columns["tokens"].dtype == np.int32
