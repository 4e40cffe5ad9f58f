import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.seeds import counted_generator
from tfasr.decoding.language_model import lm_score
from tfasr.decoding.ngram import NgramModel
from tfasr.decoding.ngram_tables import NgramTables
from tfasr.text.kneser_ney import train_arpa

LETTERS = list("abcd")


@pytest.fixture(params=range(1, 7))
def model(request, tmp_path):
    generator = counted_generator(0, "babble")
    text = [list(generator.choice(LETTERS, 9)) for _ in range(100)]
    train_arpa(text, request.param, tmp_path / "lm.arpa", prune=(0, 1)[: request.param])
    return NgramModel.load(tmp_path / "lm.arpa", ["<unk>", *LETTERS])


def test_steps_are_those_of_the_model(model):
    tables = NgramTables(model)
    sequences = counted_generator(0, "sequences").integers(0, 5, [20, 12], np.int32)
    states = np.full(20, model.start, np.int32)
    for tokens in sequences.T:
        new, log_probabilities = tables.step(tf.constant(states), tf.constant(tokens))
        states, expected = model.step(states, tokens)
        np.testing.assert_array_equal(new, states)
        np.testing.assert_array_equal(log_probabilities, expected)
        np.testing.assert_array_equal(tables.finish(new), model.finish(states))


def test_a_graph_steps_all_tokens_of_all_hypotheses(model):
    tables = NgramTables(model)
    signature = [tf.TensorSpec([None, None, 1], tf.int32), tf.TensorSpec([None], tf.int32)]
    step = tf.function(tables.step, input_signature=signature, autograph=False)
    states, _ = model.step(np.full([2, 3, 1], model.start, np.int32), np.array([1, 2, 3])[:, None])
    tokens = np.arange(5, dtype=np.int32)
    found = step(tf.constant(states), tf.constant(tokens))
    for one, other in zip(found, model.step(states, tokens), strict=True):
        assert one.shape == (2, 3, 5)
        np.testing.assert_array_equal(one, other)


def test_sequences_are_scored_as_sentences(model):
    tokens = counted_generator(0, "sequences").integers(0, 5, [6, 7], np.int32)
    num_tokens = np.array([7, 0, 3, 7, 1, 5], np.int32)
    words = ["<unk>", *LETTERS]
    texts = [[words[token] for token in row[:n]] for row, n in zip(tokens, num_tokens, strict=True)]
    found = lm_score(NgramTables(model), tf.constant(tokens), tf.constant(num_tokens))
    np.testing.assert_allclose(found, model.scores(texts), rtol=1e-5)


def test_no_hypotheses_step_to_none(model):
    states, log_probabilities = NgramTables(model).step(
        tf.zeros([0], tf.int32), tf.zeros([0], tf.int32)
    )
    assert states.shape == log_probabilities.shape == (0,)


def test_the_tables_go_into_a_saved_model(model, tmp_path):
    tables = NgramTables(model)
    module = tf.Module()
    signature = [tf.TensorSpec([None], tf.int32)] * 2
    module.step = tf.function(tables.step, input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    start, tokens = tf.fill([5], tables.start()), tf.range(5)
    again = tf.saved_model.load(str(tmp_path / "saved")).step(start, tokens)
    for one, other in zip(again, tables.step(start, tokens), strict=True):
        np.testing.assert_array_equal(one, other)
