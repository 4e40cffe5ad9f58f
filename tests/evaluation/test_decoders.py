import numpy as np
import pytest
import tensorflow as tf

from tfasr.decoding.greedy import detokenize, greedy_tokens
from tfasr.decoding.hypotheses import NBest
from tfasr.decoding.word_times import WordTimes, align, word_times
from tfasr.evaluation.decoders import (
    Decoded,
    Transcripts,
    decode_batches,
    greedy_decoder,
    hypothesis_texts,
    hypothesis_times,
    search_decoder,
)
from tfasr.evaluation.search import Heard
from tfasr.evaluation.transcription import Hypothesis

ABSENT = -float("inf")


@pytest.fixture(scope="module")
def one(recogniser):
    return recogniser(name="one")


@pytest.fixture(scope="module")
def batch(noise):
    return {
        "features": tf.constant(3 * noise(2, 24, 6)),
        "num_frames": tf.constant([24, 17]),
        "id": tf.constant(["a", "b"]),
        "text": tf.constant(["one two", "twos é"]),
        "speaker": tf.constant(["ada", "bo"]),
        "domain": tf.constant(["", "phone"]),
    }


@pytest.fixture(scope="module")
def transcripts(search, one, batch):
    """Of the batch as a whole, and of its second utterance without padding."""
    decode = search_decoder(search([one], kind="prefix_beam", beam=4, nbest=2))
    alone = {name: column[1:] for name, column in batch.items()}
    alone["features"] = alone["features"][:, :17]
    return decode_batches(decode, [(batch,), (alone,)])


def spoken(times):
    """A decoder that finds two hypotheses of one utterance, the second perhaps absent."""

    def decode(features, num_frames):
        return Decoded(tf.constant([["one two", ""]]), tf.constant([[-1.5, ABSENT]]), times)

    return decode


def rows(*values):
    return tf.ragged.constant(values, ragged_rank=1)


def test_a_greedy_decoder_writes_its_model_s_best_tokens(one, batch):
    given = (batch["features"], batch["num_frames"])
    decoded = greedy_decoder(one)((given[0],), (given[1],))
    tokens = greedy_tokens(one.model(*given), one.model.encoded_frames(given[1]))
    expected = detokenize(tokens, one.pieces).numpy()
    assert decoded.texts.numpy().tolist() == [[text] for text in expected]
    assert any(expected)


def test_lists_are_as_long_as_was_asked_and_best_first(transcripts):
    for listed in transcripts.nbest:
        assert len(listed) == 2
        assert listed[0]["score"] >= listed[1]["score"]


def test_the_best_of_a_list_is_the_hypothesis(transcripts):
    best = [listed[0]["text"] for listed in transcripts.nbest]
    assert best == [hypothesis.text for hypothesis in transcripts.hypotheses]
    assert any(best)


def test_words_are_those_of_the_text_and_follow_each_other(transcripts):
    for listed in transcripts.nbest:
        for found in listed:
            assert " ".join(word for word, _, _ in found["words"]) == found["text"]
            times = [time for _, start, end in found["words"] for time in (start, end)]
            assert times == sorted(times)


def test_padding_changes_no_decoding(transcripts):
    together, alone = transcripts.nbest[1:]
    assert [found["words"] for found in together] == [found["words"] for found in alone]
    for mine, other in zip(together, alone, strict=True):
        assert mine["score"] == pytest.approx(other["score"], rel=1e-4)


def test_hypotheses_have_what_was_said_beside_them(transcripts):
    said = [(h.utterance_id, h.reference, h.speaker, h.domain) for h in transcripts.hypotheses]
    assert said == [
        ("a", "one two", "ada", ""),
        ("b", "twos é", "bo", "phone"),
        ("b", "twos é", "bo", "phone"),
    ]


def test_times_are_those_of_each_hypothesis_by_itself(one, batch):
    heard = Heard(one, batch["features"], batch["num_frames"])
    tokens = tf.constant([[[1, 3, 0], [2, 0, 0]], [[2, 1, 1], [0, 0, 0]]])
    lengths = tf.constant([[2, 1], [3, 0]])
    nbest = NBest(tokens, lengths, tf.zeros([2, 2]))
    found = hypothesis_times(heard, nbest)
    for n in range(2):
        ragged = tf.RaggedTensor.from_tensor(tokens[:, n], lengths=lengths[:, n])
        alignment = align(heard.logits, heard.num_frames, tokens[:, n], lengths[:, n])
        expected = word_times(alignment, ragged, one.pieces, one.seconds_per_frame)
        for mine, other in zip(found, expected, strict=True):
            assert mine.to_list()[n::2] == other.to_list()


def test_hypotheses_without_tokens_have_no_words(one, batch):
    heard = Heard(one, batch["features"], batch["num_frames"])
    nbest = NBest(tf.zeros([2, 1, 0], tf.int32), tf.zeros([2, 1], tf.int32), tf.zeros([2, 1]))
    assert hypothesis_times(heard, nbest).words.to_list() == [[], []]
    assert hypothesis_texts(nbest, one.pieces).numpy().tolist() == [[b""], [b""]]


def test_texts_keep_the_shape_of_the_list(one):
    tokens = tf.constant([[[1, 3], [2, 0]], [[2, 1], [0, 0]]])
    lengths = tf.constant([[2, 1], [2, 0]])
    texts = hypothesis_texts(NBest(tokens, lengths, tf.zeros([2, 2])), one.pieces)
    assert texts.numpy().tolist() == [[b"ones", b"two"], [b"two one", b""]]
    ragged = tf.ragged.constant([[1, 3]], dtype=tf.int32)
    assert detokenize(ragged, one.pieces).numpy()[0] == texts[0, 0]


def test_absent_hypotheses_are_not_listed(batch):
    words = rows([b"one", b"two"], []), rows([0.04, 0.12], []), rows([0.12, 0.2], [])
    alone = {name: column[:1] for name, column in batch.items()}
    found = decode_batches(spoken(WordTimes(*words)), [(alone,)])
    timed = [("one", 0.04, 0.12), ("two", 0.12, 0.2)]
    assert found.nbest == [[{"text": "one two", "score": -1.5, "words": timed}]]


def test_words_without_an_alignment_have_no_times(batch):
    words = rows([b"one", b"two"], []), rows([-1.0, -1.0], []), rows([-1.0, -1.0], [])
    alone = {name: column[:1] for name, column in batch.items()}
    found = decode_batches(spoken(WordTimes(*words)), [(alone,)])
    assert found.nbest[0][0]["words"] == [("one", None, None), ("two", None, None)]


def test_the_first_batch_is_decoded_once_more_to_build_the_graph(batch):
    sizes = []

    def decode(features, num_frames):
        sizes.append(len(num_frames[0]))
        return Decoded(tf.constant([["one"]] * len(num_frames[0])))

    alone = {name: column[:1] for name, column in batch.items()}
    done = []
    found = decode_batches(decode, [(batch,), (alone,)], done.append)
    assert sizes == [2, 2, 1]
    assert done == [2, 3]
    assert [hypothesis.text for hypothesis in found.hypotheses] == ["one"] * 3


def test_every_model_is_given_its_own_features(batch):
    given = []

    def decode(features, num_frames):
        given.append((features, num_frames))
        return Decoded(tf.constant([["one"], ["two"]]))

    other = {**batch, "features": batch["features"] + 1, "num_frames": tf.constant([9, 8])}
    decode_batches(decode, [(batch, other)])
    features, num_frames = given[-1]
    np.testing.assert_array_equal(features[1], features[0] + 1)
    assert [counts.numpy().tolist() for counts in num_frames] == [[24, 17], [9, 8]]


def test_speed_is_of_reference_characters():
    hypotheses = [Hypothesis("a", "one two", "", "", ""), Hypothesis("b", "é", "one", "", "")]
    assert Transcripts(hypotheses, [], 0.5).characters_per_second == 16


def test_rows_have_lists_only_where_they_were_asked_for():
    hypotheses = [Hypothesis("a", "one", "two", "ada", "")]
    row = {"utterance_id": "a", "reference": "one", "text": "two", "speaker": "ada", "domain": ""}
    assert Transcripts(hypotheses, [], 1.0).to_json_lines() == [row]
    listed = [{"text": "two", "score": -1.0, "words": []}]
    with_list = Transcripts(hypotheses, [listed], 1.0).to_json_lines()
    assert with_list == [{**row, "nbest": listed}]
