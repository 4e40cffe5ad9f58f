import numpy as np
import pytest

from tfasr.audio.sentences import SentenceInventory


def words_of(texts):
    return {word for text in texts for word in text.split()}


def test_a_sentence_is_in_one_split_only():
    texts = SentenceInventory(0).texts
    together = texts["train"] + texts["valid"] + texts["test"]
    assert len(together) == len(set(together))


def test_every_word_can_be_learnt_from_the_training_sentences():
    texts = SentenceInventory(0).texts
    assert words_of(texts["valid"] + texts["test"]) <= words_of(texts["train"])


def test_the_grammar_has_57_words_in_sentences_of_five_to_eight():
    texts = SentenceInventory(0).texts
    everything = texts["train"] + texts["valid"] + texts["test"]
    assert len(words_of(everything)) == 57
    assert {len(text.split()) for text in everything} == {5, 6, 7, 8}


def test_the_seed_chooses_the_split():
    assert set(SentenceInventory(0).texts["test"]) != set(SentenceInventory(1).texts["test"])


def test_drawn_sentences_differ():
    drawn = SentenceInventory(0).draw("test", 100, np.random.default_rng(0))
    assert len(set(drawn)) == 100


def test_too_many_sentences_are_named():
    inventory = SentenceInventory(0)
    most = len(inventory.texts["valid"])
    with pytest.raises(ValueError, match=f"at most {most}; got valid_sentences={most + 1}"):
        inventory.draw("valid", most + 1, np.random.default_rng(0))


def test_the_digits_grammar_has_every_string_of_two_to_four():
    texts = SentenceInventory(0, "digits").texts
    everything = [text for split in texts.values() for text in split]
    assert sorted(everything)[:2] == ["eight eight", "eight eight eight"]
    assert len(set(everything)) == len(everything) == 10**2 + 10**3 + 10**4
