import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.models.decoder import (
    BidirectionalDecoder,
    TransformerDecoder,
    reverse_tokens,
    token_positions,
    with_end,
)

DIM, V = 8, 5
SHAPE = (None, None, DIM)
TOKENS = tf.constant([[3, 1, 4], [2, 0, 0], [0, 0, 0]])
NUM_TOKENS = tf.constant([3, 1, 0])
NUM_FRAMES = tf.constant([6, 4, 5])


@pytest.fixture(scope="module")
def decoder(with_noise_weights):
    return with_noise_weights(TransformerDecoder(2, 2, 12, V), SHAPE)


@pytest.fixture(scope="module")
def both(with_noise_weights):
    return with_noise_weights(BidirectionalDecoder(2, 1, 2, 12, V), SHAPE)


@pytest.fixture(scope="module")
def encoded(noise):
    return tf.constant(noise(3, 6, DIM))


@pytest.fixture(scope="module")
def mask():
    return tf.sequence_mask(NUM_FRAMES, 6)


def test_the_end_follows_the_tokens_by_hand():
    expected = [[3, 1, 4, 9], [2, 9, 9, 9], [9, 9, 9, 9]]
    assert with_end(TOKENS, NUM_TOKENS, 9).numpy().tolist() == expected


def test_tokens_are_reversed_within_their_length_by_hand():
    tokens = tf.constant([[3, 1, 4], [2, 5, 7], [6, 8, 9]])
    expected = [[4, 1, 3], [5, 2, 7], [6, 8, 9]]
    assert reverse_tokens(tokens, tf.constant([3, 2, 0])).numpy().tolist() == expected


def test_positions_by_hand():
    expected = [[0, 0, 1, 1], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)]]
    np.testing.assert_allclose(token_positions(tf.constant([0, 3]), 4), expected, atol=1e-6)


def test_embeddings_are_scaled_and_added_to_positions_by_hand():
    layer = TransformerDecoder(1, 1, 2, 2)
    layer.build(tf.TensorShape([None, None, 4]))
    layer.embeddings.assign([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    # The first block hands on what it is given.
    for variable in layer.blocks[0].variables:
        variable.assign(tf.zeros_like(variable))
    layer.output_dense.kernel.assign(tf.eye(4, 3))
    out = layer(tf.zeros([1, 1, 4]), None, tf.constant([[1]]), tf.constant([1]))
    read = np.array([[0, 0, 2 + 1, 1], [np.sin(1), 2 + np.sin(0.01), np.cos(1), np.cos(0.01)]])
    centred = read - read.mean(1, keepdims=True)
    expected = centred / np.sqrt(np.mean(centred**2, 1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(out[0], expected[:, :3], atol=1e-5)


def test_first_embeddings_have_unit_variance_once_scaled():
    layer = TransformerDecoder(1, 2, 8, 499)
    layer.build(tf.TensorShape([None, None, 64]))
    # Five standard errors over 32,000 values.
    scaled = layer.embeddings.numpy() * 64**0.5
    np.testing.assert_allclose(scaled.std(), 1, atol=5 / (2 * 32_000) ** 0.5)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_later_token_changes_no_earlier_logit(decoder, encoded, mask, place):
    changed = TOKENS.numpy()
    changed[:, place] = V - 1
    lengths = tf.constant([3, 3, 3])
    before, after = (decoder(encoded, mask, tokens, lengths) for tokens in (TOKENS, changed))
    np.testing.assert_array_equal(after[:, : place + 1], before[:, : place + 1])
    assert np.any(after[:, place + 1] != before[:, place + 1])


@pytest.mark.parametrize("row", [0, 1, 2])
def test_an_utterance_is_the_same_alone_and_in_a_padded_batch(both, encoded, mask, row):
    frames, length = int(NUM_FRAMES[row]), int(NUM_TOKENS[row])
    real = tf.sequence_mask(NUM_TOKENS, 3)
    junk = tf.where(real, TOKENS, tf.constant([[-1, 99, V]]))
    noisy = tf.where(mask[..., None], encoded, 100.0)
    alone = both(encoded[row : row + 1, :frames], None, TOKENS[row : row + 1, :length], [length])
    batch = both(noisy, mask, junk, NUM_TOKENS)
    for direction in (0, 1):
        inside = batch[direction][row : row + 1, : length + 1]
        np.testing.assert_allclose(inside, alone[direction], atol=2e-5)


def test_the_right_decoder_reads_the_reversed_tokens(both, encoded, mask):
    _, right = both(encoded, mask, TOKENS, NUM_TOKENS)
    reverse = tf.constant([[4, 1, 3], [2, 0, 0], [0, 0, 0]])
    expected = both.right(encoded, mask, reverse, NUM_TOKENS)
    np.testing.assert_array_equal(right, expected)


def test_directions_do_not_share_weights(both, encoded, mask):
    left, right = both(encoded, mask, tf.fill([3, 3], 2), tf.constant([3, 3, 3]))
    assert np.abs(left - right).max() > 0.1


def test_without_right_blocks_there_is_no_right_decoder(encoded, mask):
    layer = BidirectionalDecoder(1, 0, 2, 12, V)
    left, right = layer(encoded, mask, TOKENS, NUM_TOKENS)
    assert (left.shape, right) == ((3, 4, V + 1), None)
    assert layer.score(encoded, mask, TOKENS[:, None], NUM_TOKENS[:, None])[1] is None


def test_dropout_is_decided_by_the_seed_and_differs_by_direction(encoded, mask):
    layer = BidirectionalDecoder(1, 1, 2, 12, V, dropout=0.5)
    tokens, lengths = tf.fill([3, 3], 2), tf.constant([3, 3, 3])
    layer.build(tf.TensorShape(SHAPE))
    layer.right.set_weights(layer.left.get_weights())

    def call(seed):
        return [x.numpy() for x in layer(encoded, mask, tokens, lengths, tf.constant([0, seed]))]

    (left, right), again, other = call(1), call(1), call(2)
    np.testing.assert_array_equal(left, again[0])
    assert (left != other[0]).any()
    assert (left != right).any()


def run_steps(decoder, state, tokens):
    """Log-probabilities [N, U + 1, V + 1] of reading the start and tokens [N, U] one by one."""
    steps, start = [], tf.fill([tokens.shape[0]], decoder.vocabulary)
    for symbols in (start, *tf.unstack(tokens, axis=1)):
        log_probabilities, state = decoder.step(state, symbols)
        steps.append(log_probabilities)
    return tf.stack(steps, 1), state


def test_steps_are_the_whole_call(decoder, encoded, mask):
    steps, state = run_steps(decoder, decoder.start(encoded, mask), TOKENS)
    whole = tf.nn.log_softmax(decoder(encoded, mask, TOKENS, tf.constant([3, 3, 3])))
    np.testing.assert_allclose(steps, whole, atol=1e-5)
    assert state.num_read == 4


def test_hypotheses_of_an_utterance_share_the_encoder_s_output(decoder, encoded, mask):
    tokens = tf.random.stateless_uniform([6, 3], [1, 2], 0, V, tf.int32)
    shared, state = run_steps(decoder, decoder.start(encoded, mask, hypotheses=2), tokens)
    tiled = decoder.start(tf.repeat(encoded, 2, 0), tf.repeat(mask, 2, 0))
    np.testing.assert_allclose(shared, run_steps(decoder, tiled, tokens)[0], atol=1e-5)
    assert state.memory[0][0].shape[0] == 3


@pytest.mark.parametrize(
    ("hypotheses", "indices"),
    [
        (1, [0, 1, 2]),
        (1, [2, 0, 0]),
        (1, [1]),
        (2, [1, 1, 2, 3, 5, 4]),
        (2, [4, 5, 0, 0, 3, 2]),
        (2, [3, 3]),
    ],
)
def test_reordered_hypotheses_go_on_from_their_own_past(
    decoder, encoded, mask, hypotheses, indices
):
    rows = 3 * hypotheses
    past = tf.random.stateless_uniform([rows, 2], [1, 2], 0, V, tf.int32)
    _, state = run_steps(decoder, decoder.start(encoded, mask, hypotheses), past)
    following = tf.range(len(indices)) % V
    picked = decoder.reorder(state, tf.constant(indices))
    log_probabilities, _ = decoder.step(picked, following)
    tiled = decoder.start(tf.repeat(encoded, hypotheses, 0), tf.repeat(mask, hypotheses, 0))
    _, apart = run_steps(decoder, tiled, past)
    for row, (index, token) in enumerate(zip(indices, following, strict=True)):
        expected, _ = decoder.step(apart, tf.fill([rows], token))
        np.testing.assert_allclose(log_probabilities[row], expected[index], atol=1e-5)


def test_the_state_goes_round_a_loop_in_a_graph(decoder, encoded, mask):
    def body(place, state, total, tokens):
        log_probabilities, state = decoder.step(state, tokens)
        tokens = tf.argmax(log_probabilities, 1, output_type=tf.int32)
        total += tf.reduce_max(log_probabilities, 1)
        state = decoder.reorder(state, tf.range(tf.size(tokens)))
        return place + 1, state, total, tokens

    def greedy(encoded, mask):
        first = (tf.constant(0), decoder.start(encoded, mask), tf.zeros([3]), tf.fill([3], V))
        return tf.while_loop(lambda place, *rest: place < 4, body, first)[2]

    graph = tf.function(greedy, autograph=False)
    np.testing.assert_allclose(graph(encoded, mask), greedy(encoded, mask), atol=1e-5)


def test_a_score_is_the_sum_of_its_steps(decoder, encoded, mask):
    tokens = tf.stack([TOKENS, TOKENS[::-1]], 1)  # [3, 2, 3]
    num_tokens = tf.constant([[3, 0], [1, 1], [0, 2]])
    scores = decoder.score(encoded, mask, tokens, num_tokens)
    assert scores.shape == (3, 2)
    for row in range(3):
        for which in range(2):
            length = int(num_tokens[row, which])
            own = tokens[row, which : which + 1, :length]
            state = decoder.start(encoded[row : row + 1], mask[row : row + 1])
            steps, _ = run_steps(decoder, state, own)
            read = [*own[0].numpy(), V]
            expected = sum(steps[0, place, token] for place, token in enumerate(read))
            np.testing.assert_allclose(scores[row, which], expected, rtol=1e-5)


def test_scores_of_all_sequences_of_a_length_and_shorter_sum_to_what_ends(decoder, encoded):
    # Of all sequences of at most one token, and the share of those that go on after one.
    tokens = tf.range(V)[None, :, None]
    one = tf.concat([tokens, tf.zeros([1, 1, 1], tf.int32)], 1)
    ended = decoder.score(encoded[:1], None, one, tf.constant([[1] * V + [0]]))
    state = decoder.start(encoded[:1], None, V)
    steps, _ = run_steps(decoder, state, tokens[0])
    going_on = tf.exp(tf.linalg.diag_part(steps[:, 0, :V])) * (1 - tf.exp(steps[:, 1, V]))
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(ended)) + tf.reduce_sum(going_on), 1, rtol=1e-5)


def test_both_directions_score_the_same_tokens(both, encoded, mask):
    tokens, num_tokens = tf.stack([TOKENS] * 2, 1), tf.stack([NUM_TOKENS] * 2, 1)
    left, right = both.score(encoded, mask, tokens, num_tokens)
    logits = both(encoded, mask, TOKENS, NUM_TOKENS)
    reverse = tf.constant([[4, 1, 3], [2, 0, 0], [0, 0, 0]])
    for scores, direction, read in ((left, 0, TOKENS), (right, 1, reverse)):
        each = tf.nn.log_softmax(logits[direction]).numpy()
        for row, length in enumerate(NUM_TOKENS.numpy()):
            symbols = [*read.numpy()[row, :length], V]
            expected = sum(each[row, place, symbol] for place, symbol in enumerate(symbols))
            np.testing.assert_allclose(scores[row], [expected] * 2, rtol=1e-5)


def test_bfloat16_steps_are_the_whole_call(noise, with_noise_weights, encoded, mask):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = with_noise_weights(TransformerDecoder(2, 2, 12, V), SHAPE)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    whole = tf.nn.log_softmax(layer(encoded, mask, TOKENS, tf.constant([3, 3, 3])))
    steps, state = run_steps(layer, layer.start(tf.cast(encoded, tf.bfloat16), mask), TOKENS)
    assert (whole.dtype, steps.dtype) == (tf.float32, tf.float32)
    assert state.cache[0][0].dtype == tf.bfloat16
    # Sums of other lengths round in other places: eight bits, over two blocks.
    np.testing.assert_allclose(steps, whole, atol=0.1)


def test_the_gradient_of_the_embeddings_is_one_dense_sum(decoder, encoded, mask):
    with tf.GradientTape() as tape:
        out = tf.reduce_sum(decoder(encoded, mask, TOKENS, NUM_TOKENS)[..., 0] ** 2)
    gradient = tape.gradient(out, decoder.embeddings)
    assert isinstance(gradient, tf.Tensor)
    assert gradient.shape == (V + 1, DIM)


@functools.cache
def counted(dim, *settings):
    with tf.Graph().as_default():
        layer = BidirectionalDecoder(*settings)
        layer.build(tf.TensorShape([None, None, dim]))
        return layer.count_params()


def test_an_entry_of_the_vocabulary_has_1025_parameters_a_side():
    more, fewer = (counted(512, 1, 1, 8, 64, v) for v in (21, 20))
    assert more - fewer == 2 * 1025


# The encoder's share as the Deep Sparse Conformer has it: blocks, subsampling, a norm after
# them, and a CTC head of D + 1 for each token and the blank.
@pytest.mark.parametrize(
    ("blocks", "entries", "total"),
    [
        (12, 5502, 122_559_610),
        (12, 4096, 118_956_032),
        (17, 5502, 154_178_170),
        (50, 5502, 362_860_666),
        (100, 5502, 679_046_266),
        (100, 4096, 675_442_688),
    ],
)
def test_a_deep_sparse_conformer_has_its_parameters(blocks, entries, total):
    encoder = blocks * 6_323_712 + 7_346_176 + 1_024 + 513 * entries
    assert encoder + counted(512, 3, 3, 8, 2048, entries - 1) == total


@pytest.mark.parametrize(("entries", "total"), [(5502, 13_337_946), (4096, 12_321_408)])
def test_the_small_deep_sparse_conformer_has_its_parameters(entries, total):
    encoder = 16 * 506_736 + 582_336 + 288 + 145 * entries
    assert encoder + counted(144, 1, 1, 4, 576, entries - 1) == total


def test_variables_are_named_by_side_and_block(both):
    names = {variable.name for variable in both.variables}
    assert {name.split("/")[0] for name in names} == {"left_decoder", "right_decoder"}
    assert "left_decoder/embeddings:0" in names
    assert "left_decoder/block_1/self_attention/query/kernel:0" in names
    assert "right_decoder/block_0/cross_attention/norm/gamma:0" in names


def test_a_decoder_comes_back_from_its_json_configuration(both, encoded, mask):
    again = keras.layers.deserialize(json.loads(json.dumps(keras.layers.serialize(both))))
    again.build(tf.TensorShape(SHAPE))
    again.set_weights(both.get_weights())
    arguments = (encoded, mask, TOKENS, NUM_TOKENS)
    for one, other in zip(again(*arguments), both(*arguments), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [((0, 1), "got num_blocks_left=0, num_blocks_right=1"), ((1, -1), "num_blocks_right=-1")],
)
def test_numbers_of_blocks_that_make_no_decoder_are_named(blocks, message):
    with pytest.raises(ValueError, match=message):
        BidirectionalDecoder(*blocks, 2, 12, V)


def test_a_decoder_without_blocks_is_refused():
    with pytest.raises(ValueError, match="num_blocks must be at least 1; got num_blocks=0"):
        TransformerDecoder(0, 2, 12, V)


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="D must be even for sinusoids; got D=9"):
        TransformerDecoder(1, 3, 12, V).build(tf.TensorShape([None, None, 9]))
