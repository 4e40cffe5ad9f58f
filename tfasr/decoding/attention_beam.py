"""Beam search with an attention decoder, batched and in the graph."""

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from tfasr.decoding.hypotheses import NBest, best_first

NEVER = -float("inf")


class Decoder(Protocol):
    """Predicts one token at a time; symbol V is start and end.

    A state is a structure of tensors whose static shapes stay the same from step to step, with
    N = B * `hypotheses` rows, those of one utterance together.
    """

    vocabulary: int

    def start(self, encoded: tf.Tensor, mask: tf.Tensor | None, hypotheses: int) -> Any:
        """Gives the state that has read nothing, from [B, T, D] and [B, T] bool."""
        ...

    def step(self, state: Any, tokens: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Reads symbols [N]: log-probabilities [N, V + 1] of the next, and the state after."""
        ...

    def reorder(self, state: Any, indices: tf.Tensor) -> Any:
        """Gives the state of the rows `indices` [N]."""
        ...


class _Search(NamedTuple):
    """W hypotheses of each utterance.

    Args:
        tokens: [B, W, `max_tokens`] int32.
        num_tokens: [B, W] int32.
        totals: [B, W] float32, log-probabilities; -inf for none.
        ended: [B, W] bool, True once the end is read.
        last: [B, W] int32, last symbol.
    """

    tokens: tf.Tensor
    num_tokens: tf.Tensor
    totals: tf.Tensor
    ended: tf.Tensor
    last: tf.Tensor


def attention_beam_search(
    decoder: Decoder,
    encoded: tf.Tensor,
    mask: tf.Tensor | None,
    *,
    beam: int,
    max_tokens: int,
    length_penalty: float,
) -> NBest:
    """Searches the token sequences that an attention decoder finds most probable.

    Every hypothesis ends: after `max_tokens` tokens the end's log-probability is taken, whatever
    it is. With a beam that holds all prefixes the scores are exact. The search stops once all
    hypotheses have ended.

    Call it in a graph. It holds B `beam` rows of the decoder's state, twice while they are
    reordered, and 4 B `beam` (V + 1) bytes of log-probabilities.

    Args:
        decoder: The decoder.
        encoded: [B, T, D] float.
        mask: [B, T] bool, True on real frames; None means all are real.
        beam: Hypotheses kept, ended ones among them, and returned.
        max_tokens: Longest hypothesis, in tokens.
        length_penalty: Scores are `log p / ((5 + n) / 6) ** length_penalty`, n counting the
            tokens and the end, in the search and in what it gives; 0 leaves log p, and more
            favours longer hypotheses.

    Returns:
        N = `beam` hypotheses.

    Raises:
        ValueError: `beam` or `max_tokens` is less than 1, or `length_penalty` negative.

    Source: Wu et al. (2016), "Google's Neural Machine Translation System", eq. 14, without the
        coverage penalty.
    """
    _check(beam, max_tokens, length_penalty)
    end = decoder.vocabulary

    def more(place: tf.Tensor, search: _Search, _: Any) -> tf.Tensor:
        going = ~search.ended & (search.totals > NEVER)
        return (place <= max_tokens) & tf.reduce_any(going)

    def advance(place: tf.Tensor, search: _Search, state: Any) -> tuple[tf.Tensor, _Search, Any]:
        scores, state = decoder.step(state, tf.reshape(search.last, [-1]))
        only_end = (place == max_tokens) & (tf.range(end + 1) < end)
        scores = tf.where(only_end, NEVER, scores)
        search, rows = _extend(search, scores, place, length_penalty)
        return place + 1, search, decoder.reorder(state, rows)

    first = _first(tf.shape(encoded)[0], beam, max_tokens, end)
    loop = (tf.constant(0), first, decoder.start(encoded, mask, beam))
    _, search, _ = tf.while_loop(more, advance, loop)
    scores = _penalised(search.totals, search.num_tokens + 1, length_penalty)
    return best_first(search.tokens, search.num_tokens, scores)


def _check(beam: int, max_tokens: int, length_penalty: float) -> None:
    for name, value in (("beam", beam), ("max_tokens", max_tokens)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={value}")
    if not length_penalty >= 0:
        raise ValueError(
            f"length_penalty must not be negative; got length_penalty={length_penalty}"
        )


def _first(size: tf.Tensor, beam: int, max_tokens: int, start: int) -> _Search:
    slots = tf.tile(tf.range(beam)[None], [size, 1])  # [B, W]
    return _Search(
        tokens=tf.zeros([size, beam, max_tokens], tf.int32),
        num_tokens=tf.zeros_like(slots),
        totals=tf.where(slots == 0, 0.0, NEVER),
        ended=tf.zeros_like(slots, tf.bool),
        last=tf.zeros_like(slots) + start,
    )


def _extend(
    search: _Search, scores: tf.Tensor, place: tf.Tensor, length_penalty: float
) -> tuple[_Search, tf.Tensor]:
    """Takes the best continuations.

    Args:
        search: Hypotheses of `place` tokens, and ended ones.
        scores: [N, V + 1] float32, log-probabilities of their next symbols.
        place: Scalar int32.
        length_penalty: Ranks.

    Returns:
        The hypotheses after one more symbol, and the rows [N] that they come from.
    """
    size, beam = tf.shape(search.last)[0], search.last.shape[1]
    end = tf.shape(scores)[1] - 1
    tried = tf.minimum(beam, end + 1)
    scores, symbols = tf.math.top_k(scores, tried)  # [N, K]
    going = tf.where(search.ended, NEVER, search.totals)
    going = going[:, :, None] + tf.reshape(scores, [size, beam, tried])
    # An ended hypothesis has one continuation: itself.
    staying = tf.where(search.ended, search.totals, NEVER)
    totals = tf.concat([staying, tf.reshape(going, [size, beam * tried])], 1)  # [B, W + W K]
    symbols = tf.pad(
        tf.reshape(symbols, [size, beam * tried]), [[0, 0], [beam, 0]], constant_values=end
    )
    length = tf.concat([search.num_tokens + 1, tf.fill([size, beam * tried], place + 1)], 1)
    kept = tf.math.top_k(_penalised(totals, length, length_penalty), beam).indices  # [B, W]

    is_new = kept >= beam
    slot = tf.where(is_new, (kept - beam) // tried, kept)
    last = tf.gather(symbols, kept, batch_dims=1)
    gained = is_new & (last != end)
    here = (tf.range(search.tokens.shape[2]) == place) & gained[:, :, None]
    after = _Search(
        tokens=tf.where(here, last[:, :, None], tf.gather(search.tokens, slot, batch_dims=1)),
        num_tokens=tf.gather(search.num_tokens, slot, batch_dims=1) + tf.cast(gained, tf.int32),
        totals=tf.gather(totals, kept, batch_dims=1),
        ended=last == end,
        last=last,
    )
    return after, tf.reshape(slot + beam * tf.range(size)[:, None], [-1])


def _penalised(totals: tf.Tensor, length: tf.Tensor, length_penalty: float) -> tf.Tensor:
    return totals / ((5 + tf.cast(length, tf.float32)) / 6) ** length_penalty
