import math

import numpy as np
import pytest

from tfasr.configs.seeds import counted_generator
from tfasr.decoding.ngram import NgramModel, perplexity
from tfasr.text.arpa import Arpa, NgramOrder
from tfasr.text.kneser_ney import train_arpa

# Probabilities and backoffs are powers of ten, to be added in the head.
TEXT = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-3 <unk>
-99 <s> -0.5
-2 </s>
-1 a -0.25
-1.5 b -0.75

\\2-grams:
-0.4 <s> a -0.2
-0.3 a b -0.1
-0.7 b </s>
-0.6 b a

\\3-grams:
-0.05 <s> a b
-0.15 a b </s>

\\end\\
"""
LETTERS = list("abcdefgh")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "lm.arpa").write_text(TEXT)
    return tmp_path / "lm.arpa"


def log10(*values: float) -> float:
    return pytest.approx(sum(values) * math.log(10), rel=1e-6)


def read_ngrams(path) -> dict[tuple[str, ...], tuple[float, float]]:
    """Log10 probability and backoff of each n-gram of a file, line by line."""
    found = {}
    for line in path.read_text().splitlines():
        if "\t" in line:
            probability, words, *backoff = line.split("\t")
            found[tuple(words.split())] = (float(probability), float((backoff or [0])[0]))
    return found


def log_probability(ngrams, context: tuple[str, ...], word: str) -> float:
    """Natural log probability by recursion over ever shorter contexts."""
    if (*context, word) in ngrams:
        return ngrams[(*context, word)][0] * math.log(10)
    backoff = ngrams.get(context, (0.0, 0.0))[1] * math.log(10)
    return backoff + log_probability(ngrams, context[1:], word)


@pytest.fixture(params=[(n, prune) for n in range(1, 7) for prune in ((), (0, 1))], ids=str)
def babble(request, tmp_path):
    """A trained model over letters, its file's n-grams and sentences like its own."""
    order, prune = request.param
    generator = counted_generator(0, "babble")
    shares = 1 / np.arange(1, 9)
    text = [list(generator.choice(LETTERS, 9, p=shares / shares.sum())) for _ in range(100)]
    train_arpa(text, order, tmp_path / "lm.arpa", prune=prune[:order])
    model = NgramModel.load(tmp_path / "lm.arpa", ["<unk>", *LETTERS])
    return model, read_ngrams(tmp_path / "lm.arpa"), generator.integers(0, 9, [20, 12])


def test_a_sentence_by_hand(path):
    # <s> a; <s> a b; a b </s>: each is in the file.
    assert NgramModel.load(path).score(["a", "b"]) == log10(-0.4, -0.05, -0.15)


def test_backing_off_by_hand(path):
    model = NgramModel.load(path)
    # "<s> b" is not there: backoff of <s>, then b. "<s> b a" neither: no context "<s> b", b a.
    # "b a </s>" and "a </s>" neither: backoffs 0 of "b a" and -0.25 of a, then </s>.
    assert model.score(["b", "a"]) == log10(-0.5, -1.5, -0.6, -0.25, -2)
    # From "<s> a": -0.2, from a: -0.25, then a; then from a: -0.25, then </s>.
    assert model.score(["a", "a"]) == log10(-0.4, -0.2, -0.25, -1, -0.25, -2)


def test_an_unknown_word_by_hand(path):
    # After it the context is empty.
    assert NgramModel.load(path).score(["a", "x", "b"]) == log10(-0.4, -0.2, -0.25, -3, -1.5, -0.7)


def test_a_model_without_the_unknown_word_gives_it_next_to_nothing(path):
    path.write_text(TEXT.replace("-3 <unk>\n", "").replace("1=5", "1=4"))
    assert NgramModel.load(path).score(["x"]) == log10(-0.5, -100, -2)


def test_an_empty_sentence_only_ends(path):
    assert NgramModel.load(path).score([]) == log10(-0.5, -2)


def test_sentences_are_scored_together_as_alone(path):
    model = NgramModel.load(path)
    sentences = [["a", "b"], [], ["b", "a", "a", "x"], ["b"]]
    assert model.scores(sentences).tolist() == [model.score(each) for each in sentences]


def test_no_sentences_have_no_scores(path):
    assert NgramModel.load(path).scores([]).shape == (0,)


def test_steps_by_hand(path):
    model = NgramModel.load(path, ["b", "a"])
    start = np.full([2], model.start, np.int32)
    states, log_probabilities = model.step(start, np.array([1, 0], np.int32))
    assert log_probabilities.tolist() == [log10(-0.4), log10(-0.5, -1.5)]
    assert (states.dtype, log_probabilities.dtype) == (np.int32, np.float32)
    assert model.finish(states).tolist() == [log10(-0.2, -0.25, -2), log10(-0.7)]


def test_histories_with_the_same_future_share_a_state(path):
    model = NgramModel.load(path, ["b", "a"])
    state = np.array([model.start], np.int32)
    one, _ = model.step(model.step(state, np.array([0]))[0], np.array([0]))  # <s> b b
    other, _ = model.step(state, np.array([0]))  # <s> b
    assert one == other


def test_steps_are_what_the_recursion_gives(babble):
    model, ngrams, sequences = babble
    words = ["<unk>", *LETTERS]
    states = np.full(len(sequences), model.start, np.int32)
    for place, tokens in enumerate(sequences.T):
        states, found = model.step(states, tokens)
        ends = model.finish(states)
        for row, sequence in enumerate(sequences):
            said = ("<s>", *(words[token] for token in sequence[: place + 1]))
            context = said[:-1][len(said) - model.order :] if model.order < len(said) else said[:-1]
            expected = log_probability(ngrams, context, said[-1])
            assert found[row] == pytest.approx(expected, abs=1e-4)
            context = said[max(0, len(said) - model.order + 1) :]
            assert ends[row] == pytest.approx(log_probability(ngrams, context, "</s>"), abs=1e-4)


def test_states_and_tokens_broadcast(babble):
    model, _, sequences = babble
    states = np.full([len(sequences)], model.start, np.int32)
    for tokens in sequences.T[:3]:
        states, _ = model.step(states, tokens)
    tokens = np.arange(9, dtype=np.int32)
    together = model.step(states[:, None], tokens)
    for row, state in enumerate(states):
        alone = model.step(np.full(9, state, np.int32), tokens)
        np.testing.assert_array_equal(together[0][row], alone[0])
        np.testing.assert_array_equal(together[1][row], alone[1])


def test_probabilities_of_a_step_sum_to_one(babble):
    model, _, sequences = babble
    states = np.full(len(sequences), model.start, np.int32)
    for column in sequences.T:
        _, words = model.step(states[:, None], np.arange(9, dtype=np.int32))
        total = np.exp(words).sum(1) + np.exp(model.finish(states))
        np.testing.assert_allclose(total, 1, rtol=1e-4)
        states, _ = model.step(states, column)


def test_keys_beyond_32_bits_are_found():
    # 60,000 words, each followed by itself: the keys reach 3.6e9.
    words = ["<unk>", "<s>", "</s>", *map(str, range(60_000))]
    index, zeros = np.arange(len(words)), np.zeros(len(words))
    unigrams = NgramOrder(np.zeros_like(index), index, zeros - 4, zeros)
    arpa = Arpa(words, [unigrams, NgramOrder(index, index, -index / 1e5, zeros)])
    model = NgramModel(arpa)
    states, _ = model.step(np.full(2, model.start, np.int32), index[-2:])
    assert model.step(states, index[-2:])[1].tolist() == [log10(-0.60001), log10(-0.60002)]


def test_perplexity_by_hand(path):
    model = NgramModel.load(path)
    # "a b" has -0.4 - 0.05 - 0.15 and "b" has -0.5 - 1.5 - 0.7: -3.3 in five predictions.
    assert perplexity(model, [["a", "b"], ["b"]]) == pytest.approx(10 ** (3.3 / 5), rel=1e-5)


def test_the_perplexity_of_nothing_is_named(path):
    with pytest.raises(ValueError, match="a perplexity needs sentences; got none"):
        perplexity(NgramModel.load(path), [])


def test_a_model_of_another_vocabulary_is_refused(path):
    message = r"lm\.arpa: a language model of another vocabulary: it lacks 2 of 4 words, .* c d"
    with pytest.raises(ValueError, match=message):
        NgramModel.load(path, ["<unk>", "c", "a", "d"])


def test_a_model_that_may_lack_only_the_unknown_word(path):
    path.write_text(TEXT.replace("-3 <unk>\n", "").replace("1=5", "1=4"))
    model = NgramModel.load(path, ["<unk>", "a"])
    start = np.array([model.start], np.int32)
    assert model.step(start, np.array([0]))[1].tolist() == [log10(-0.5, -100)]


def test_a_model_without_a_sentences_end_is_named(path):
    lines = [line for line in TEXT.splitlines() if "</s>" not in line]
    text = "\n".join(lines).replace("1=5", "1=4").replace("2=4", "2=3").replace("3=2", "3=1")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"lm\.arpa: .* must have <s> and </s>; it lacks </s>"):
        NgramModel.load(path)
