"""Connectionist temporal classification."""

from collections.abc import Callable

import tensorflow as tf

# Log-probability of what cannot be: no infinity, for differences of those are no numbers.
_IMPOSSIBLE = -1e30
# A smaller probability may be 0 for want of digits, and its logarithm is then not the true one.
_FAINT = 1e-30
# Frames that the loop computes in one turn, so that they share what a turn costs by itself.
_FRAMES_A_TURN = 8


def required_frames(tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
    """Fewest frames that can hold the tokens: one each, and a blank between equal neighbours.

    Args:
        tokens: [B, U] int32.
        num_tokens: [B] int32.

    Returns:
        [B] int32.
    """
    inside = tf.sequence_mask(num_tokens - 1, tf.maximum(tf.shape(tokens)[1] - 1, 0))
    # Not "==", which compares tensors by identity in the graphs that TFF makes.
    repeats = tf.equal(tokens[:, 1:], tokens[:, :-1]) & inside
    return num_tokens + tf.reduce_sum(tf.cast(repeats, tf.int32), 1)


def ctc_loss(
    logits: tf.Tensor, num_frames: tf.Tensor, tokens: tf.Tensor, num_tokens: tf.Tensor
) -> tf.Tensor:
    """Computes the negative log-probability of the tokens.

    An utterance with too few frames for its tokens has no alignment: its loss and its gradient
    are 0. Without tokens the loss is that of the all-blank path. The logits must be finite.

    Args:
        logits: [B, T, V + 1] float; the blank is V.
        num_frames: [B] int32, real frames of the logits; at most T.
        tokens: [B, U] int32 in [0, V) inside their lengths.
        num_tokens: [B] int32, at most U.

    Returns:
        [B] float32.

    Raises:
        tf.errors.InvalidArgumentError: A length exceeds T or U.

    Source: Graves et al. (2006), "Connectionist Temporal Classification", section 4.1 and eq. 16.
    """
    logits = tf.cast(logits, tf.float32)
    batch, frames, num_classes = tf.unstack(tf.shape(logits))
    tf.debugging.assert_less_equal(num_frames, frames, "num_frames must not exceed T")
    tf.debugging.assert_less_equal(num_tokens, tf.shape(tokens)[1], "num_tokens must not exceed U")
    feasible = required_frames(tokens, num_tokens) <= num_frames
    counted = tf.sequence_mask(num_frames, frames) & feasible[:, None]  # [B, T]
    tokens = tf.where(tf.sequence_mask(num_tokens, tf.shape(tokens)[1]), tokens, 0)
    classes = tf.concat([tokens, tf.fill([batch, 1], num_classes - 1)], 1)  # [B, U + 1]

    @tf.custom_gradient
    def losses(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        # Otherwise a tape would have the gradient of the loop made as well.
        logits = tf.stop_gradient(logits)
        probabilities = tf.nn.softmax(logits)
        scores = tf.gather(logits, classes, axis=2, batch_dims=1)  # [B, T, U + 1]
        exact = tf.cast(scores, tf.float64)
        log_sum, at_tokens = _sum_alignments(
            exact[..., :-1] - exact[..., -1:], num_frames, tokens, num_tokens
        )

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            weights = tf.where(counted, upstream[:, None], 0.0)[..., None]  # [B, T, 1]
            at_blank = 1 - tf.reduce_sum(at_tokens, -1, keepdims=True)
            occupancy = tf.concat([at_tokens, at_blank], -1)  # [B, T, U + 1]
            return _add_to_classes(probabilities * weights, classes, -weights * occupancy)

        of_blanks = _blank_losses(logits, probabilities, classes, scores)
        of_blanks = tf.reduce_sum(tf.where(counted, of_blanks, 0.0), 1)
        return of_blanks - tf.cast(tf.where(feasible, log_sum, 0.0), tf.float32), gradient

    return losses(logits)


def _blank_losses(
    logits: tf.Tensor, probabilities: tf.Tensor, classes: tf.Tensor, scores: tf.Tensor
) -> tf.Tensor:
    """Minus the log-probability of the blank in each frame, [B, T].

    Any class whose probability is known gives it, so that the logits are not summed again: the
    likeliest of those at hand is taken. Only where all of these are faint they have to be.
    """
    likeliest = tf.gather(classes, tf.argmax(scores, -1), batch_dims=1)  # [B, T]
    probability = tf.gather(probabilities, likeliest, batch_dims=2)
    blank = scores[..., -1:]
    return tf.cond(
        tf.reduce_all(probability > _FAINT),
        lambda: tf.reduce_max(scores - blank, -1) - tf.math.log(probability),
        lambda: tf.reduce_logsumexp(logits - blank, -1),
    )


def _sum_alignments(
    ratios: tf.Tensor, num_frames: tf.Tensor, tokens: tf.Tensor, num_tokens: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums over the alignments of each utterance, from its first frame and from its last.

    In float64: an occupancy is the exponential of differences of sums over all frames, and
    after 1,500 frames in float32 it can be wrong by 0.01.

    Args:
        ratios: [B, T, U] float64, log-probability of each token less that of the blank.
        num_frames: [B] int32.
        tokens: [B, U] int32.
        num_tokens: [B] int32.

    Returns:
        [B] float64, log of all alignments' probability, less that of the one of blanks alone;
        [B, T, U] float32, the probability that a frame is a token's, given the tokens; 0 beyond
        the lengths. Both are finite, but mean nothing, where there is no alignment.
    """
    batch, frames, width = tf.unstack(tf.shape(ratios))
    inside = tf.sequence_mask(num_frames, frames)[..., None]
    inside &= tf.sequence_mask(num_tokens, width)[:, None]
    ratios = tf.transpose(tf.where(inside, ratios, _IMPOSSIBLE), [1, 2, 0])  # [T, U, B]
    # Whole frames and tokens are turned round: what was padding comes first then, and an
    # alignment may start past it.
    both = tf.transpose(tf.concat([tokens, tokens[:, ::-1]], 0))  # [U, 2 B]
    repeats = tf.pad(tf.equal(both[1:], both[:-1]), [[1, 0], [0, 0]])[:width]
    padding = tf.concat([tf.zeros_like(num_tokens), width - num_tokens], 0)
    begins = tf.range(width + 1)[:, None] <= padding  # [U + 1, 2 B]
    past = tf.where(begins, tf.constant(0.0, tf.float64), _IMPOSSIBLE)
    at, log_sum = _recursion(tf.concat([ratios, tf.reverse(ratios, [0, 1])], -1), repeats, past)
    log_sum = log_sum[batch:]
    occupancy = at[..., :batch] + tf.reverse(at[..., batch:], [0, 1]) - ratios - log_sum
    return log_sum, tf.transpose(tf.exp(tf.cast(occupancy, tf.float32)), [2, 0, 1])


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None, None], tf.float64),
        tf.TensorSpec([None, None], tf.bool),
        tf.TensorSpec([None, None], tf.float64),
    ],
    autograph=False,
)
def _recursion(
    ratios: tf.Tensor, repeats: tf.Tensor, past: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums over the beginnings of alignments, relative to that of blanks alone, in logarithms.

    Those whose frame t is token u's, and those that came to token u by then:

        at_u(t) = ratio_u(t) + log(exp at_u(t - 1) + exp past_{u - 1}(t - 1))
        past_u(t) = log(exp past_u(t - 1) + exp at_u(t))

    A token that equals the one before it goes on from past_{u - 1}(t - 2): a blank lies between.

    Args:
        ratios: [T, U, N] float64, log-probability of each token less that of the blank.
        repeats: [U, N] bool, whether a token equals the one before it.
        past: [U + 1, N] float64, before the first frame; the first row is no token's.

    Returns:
        [T, U, N], at; [N], past of the last token and frame.
    """
    frames, width, lanes = tf.unstack(tf.shape(ratios))
    turns = tf.maximum((frames + _FRAMES_A_TURN - 1) // _FRAMES_A_TURN, 1)
    missing = turns * _FRAMES_A_TURN - frames
    ratios = tf.pad(ratios, [[0, missing], [0, 0], [0, 0]], constant_values=_IMPOSSIBLE)
    ratios = tf.reshape(ratios, [turns, _FRAMES_A_TURN, width, lanes])
    by_turn = tf.TensorArray(tf.float64, turns, element_shape=ratios.shape[1:])
    given, taken = by_turn.unstack(ratios), by_turn

    def take_turn(turn: tf.Tensor, taken: tf.TensorArray, *state: tf.Tensor) -> tuple[object, ...]:
        at, past, before, earlier = state
        at_frames = []
        for ratio in tf.unstack(given.read(turn)):
            at = ratio + _log_add(tf.where(repeats, earlier, before), at)
            past = _log_add(at, past)
            before, earlier = tf.concat([start, past[:-1]], 0), before
            at_frames.append(at)
        return turn + 1, taken.write(turn, tf.stack(at_frames)), at, past, before, earlier

    start = past[:1]
    at = tf.fill([width, lanes], tf.constant(_IMPOSSIBLE, tf.float64))
    state = at, past[1:], past[:-1], past[:-1]
    _, taken, _, past, *_ = tf.while_loop(
        lambda turn, *_: turn < turns, take_turn, (0, taken, *state)
    )
    at = tf.reshape(taken.stack(), [-1, width, lanes])[:frames]
    return at, tf.concat([start, past], 0)[-1]


def _log_add(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Log of the sum of exponentials of float64; what is added to the larger fits float32."""
    larger = tf.maximum(x, y)
    difference = tf.cast(tf.minimum(x, y) - larger, tf.float32)
    return larger + tf.cast(tf.nn.softplus(difference), tf.float64)


def _add_to_classes(dense: tf.Tensor, classes: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Adds values [B, T, C] to those of the classes [B, C] in [B, T, V + 1].

    `tf.tensor_scatter_nd_add` takes up to four times as long on a CPU, but is there for GPUs too.
    """
    batch, frames, num_classes = tf.unstack(tf.shape(dense, tf.int64))
    first = tf.reshape(tf.range(batch * frames) * num_classes, [batch, frames, 1])
    places = first + tf.cast(classes, tf.int64)[:, None]  # [B, T, C]
    sparse = tf.SparseTensor(
        tf.reshape(places, [-1, 1]), tf.reshape(values, [-1]), [tf.size(dense, tf.int64)]
    )
    return tf.reshape(tf.sparse.add(sparse, tf.reshape(dense, [-1])), tf.shape(dense))
