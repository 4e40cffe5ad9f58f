import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.corpora import TokenizerConfig
from tfasr.decoding.greedy import detokenize, greedy_path, greedy_tokens
from tfasr.text.tokenizer import UNKNOWN, Tokenizer, train_tokenizer

BLANK = 3
TEXTS = ["turn the light on", "turn off the heating", "play a song in the kitchen"] * 4
SENTENCES = ["turn on the song", "the taxi off", "ü on", "täxi", "ß", "", "light ü light"]


def logits_of(paths):
    return tf.one_hot(paths, BLANK + 1, on_value=4.0, off_value=-1.0)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 0, 1, 1, 1], [0, 1]),
        ([0, 3, 0], [0, 0]),
        ([3, 3, 1, 3, 3], [1]),
        ([0, 0, 3, 0, 1, 1, 3, 3, 1], [0, 0, 1, 1]),
        ([3, 3], []),
    ],
)
def test_repeats_are_merged_and_blanks_dropped_by_hand(path, expected):
    tokens = greedy_tokens(logits_of([path]), tf.constant([len(path)]))
    assert tokens.to_list() == [expected]


def test_padded_frames_say_nothing():
    paths = [[0, 0, 1, 2, 0], [1, 3, 1, 0, 2], [2, 2, 2, 2, 2]]
    tokens = greedy_tokens(logits_of(paths), tf.constant([2, 3, 0]))
    assert tokens.to_list() == [[0], [1, 1], []]


def test_tokens_are_int32_of_a_ragged_tensor_with_a_row_an_utterance():
    tokens = greedy_tokens(logits_of([[3, 3], [0, 3]]), tf.constant([2, 2]))
    assert tokens.dtype == tf.int32
    assert tokens.row_lengths().numpy().tolist() == [0, 1]


def test_the_best_token_of_each_frame_counts(noise):
    logits = noise(2, 40, 5)
    best = logits.argmax(-1)
    expected = [
        [int(t) for i, t in enumerate(row) if t != 4 and (i == 0 or t != row[i - 1])]
        for row in best
    ]
    assert greedy_tokens(tf.constant(logits), tf.constant([40, 40])).to_list() == expected


def test_text_by_hand():
    pieces = ["?", "▁a", "b", "▁", "c"]
    tokens = tf.ragged.constant([[1, 2, 1], [3, 4, 3, 3, 2], [], [3]], dtype=tf.int32)
    texts = [text.decode() for text in detokenize(tokens, pieces).numpy()]
    assert texts == ["ab a", "c b", "", ""]


@pytest.fixture(scope="module", params=["unigram", "bpe", "char"])
def tokenizer(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(TEXTS, TokenizerConfig(kind=request.param, vocabulary=32), path)
    return Tokenizer(path)


def test_detokenised_text_is_sentencepiece_s_with_single_spaces(tokenizer):
    tokens = [tokenizer.encode(sentence) for sentence in SENTENCES]
    texts = detokenize(tf.ragged.constant(tokens, dtype=tf.int32), tokenizer.pieces).numpy()
    expected = [" ".join(tokenizer.decode(row).split()) for row in tokens]
    assert [text.decode() for text in texts] == expected


def test_any_tokens_are_detokenised_as_sentencepiece_does(tokenizer, noise):
    order = np.argsort(noise(20, tokenizer.vocabulary), axis=1)[:, :9]
    texts = detokenize(tf.RaggedTensor.from_tensor(order.astype(np.int32)), tokenizer.pieces)
    expected = [" ".join(tokenizer.decode(row.tolist()).split()) for row in order]
    assert [text.decode() for text in texts.numpy()] == expected


def test_known_text_comes_back(tokenizer):
    tokens = tf.ragged.constant([tokenizer.encode("turn on the heating")], dtype=tf.int32)
    assert detokenize(tokens, tokenizer.pieces).numpy().tolist() == [b"turn on the heating"]


def test_the_unknown_piece_is_a_sign_of_its_own(tokenizer):
    tokens = tf.ragged.constant([[UNKNOWN]], dtype=tf.int32)
    assert detokenize(tokens, tokenizer.pieces).numpy()[0].decode() == "⁇"


def test_a_graph_writes_the_same_text(tokenizer):
    signature = [
        tf.TensorSpec([None, None, tokenizer.vocabulary + 1]),
        tf.TensorSpec([None], tf.int32),
    ]
    graph = tf.function(
        lambda x, n: detokenize(greedy_tokens(x, n), tokenizer.pieces),
        input_signature=signature,
        autograph=False,
    )
    path = [tokenizer.encode("the song")]
    logits = tf.one_hot(path, tokenizer.vocabulary + 1)
    assert graph(logits, tf.constant([len(path[0])])).numpy().tolist() == [b"the song"]


def test_frames_and_score_of_the_path_by_hand():
    # The blank is 2: tokens 0 0 blank 0 1, the last frame is padding.
    best = [[0, 0, 2, 0, 1, 1]]
    logits = np.log(np.where(np.eye(3)[best], 0.8, 0.1))
    path = greedy_path(tf.constant(logits, tf.float32), tf.constant([5]))
    assert path.tokens.to_list() == [[0, 0, 1]]
    assert path.first.to_list() == [[0, 3, 4]]
    assert path.last.to_list() == [[1, 3, 4]]
    np.testing.assert_allclose(path.scores, [5 * np.log(0.8)], rtol=1e-5)
    assert path.symbol.numpy().tolist() == [1]


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_chunks_give_the_tokens_of_the_whole(noise, cut):
    logits, num_frames = tf.constant(noise(3, 12, 3)), np.array([12, 7, 0])
    whole = greedy_path(logits, num_frames)
    tokens, symbol = [[], [], []], None
    for start in range(0, 12, cut):
        frames = np.clip(num_frames - start, 0, min(cut, 12 - start))
        part = greedy_path(logits[:, start : start + cut], frames, symbol)
        symbol = part.symbol
        tokens = [old + new for old, new in zip(tokens, part.tokens.to_list(), strict=True)]
        lengths = [part.tokens.row_lengths(), part.first.row_lengths(), part.last.row_lengths()]
        np.testing.assert_array_equal(lengths[0], lengths[1])
        np.testing.assert_array_equal(lengths[0], lengths[2])
    assert tokens == whole.tokens.to_list()
