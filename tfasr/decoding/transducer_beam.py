"""Transducer beam search, frame by frame, batched and in the graph."""

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tfasr.decoding.hypotheses import NBest, best_first
from tfasr.decoding.language_model import NO_FUSION, Fusion
from tfasr.decoding.prefix_keys import extended_key
from tfasr.models.lstm import LstmState
from tfasr.models.transducer import JointNetwork, PredictionNetwork

NEVER = -float("inf")


class _Prefixes(NamedTuple):
    """W prefixes of each utterance, no two alive the same; one with no alignment is dead.

    Args:
        total: [B, W] float32, log-probability of all alignments.
        best: [B, W] float32, of the most probable one that was kept.
        last: [B, W] int32, last token; V for the empty prefix.
        num_tokens: [B, W] int32.
        key: [B, W] int64, hash of the prefix.
        lm_state: [B, W] int32.
        lm: [B, W] float32, log-probability by the language model.
        slot: [B, W] int32, where the best alignment stood before the frame.
        gained: [B, W, S] int32, what it gained in the frame; -1 for nothing.
        projected: [B, W, J] float, the joint network's view of the prefix.
        output: [B, W, P] float, of the prediction network's LSTM.
        cell: [B, W, P] float, of the prediction network's LSTM.
    """

    total: tf.Tensor
    best: tf.Tensor
    last: tf.Tensor
    num_tokens: tf.Tensor
    key: tf.Tensor
    lm_state: tf.Tensor
    lm: tf.Tensor
    slot: tf.Tensor
    gained: tf.Tensor
    projected: tf.Tensor
    output: tf.Tensor
    cell: tf.Tensor


class _Symbols(NamedTuple):
    """What may follow each prefix.

    Args:
        blank: [B, W] float32, log-probability of the blank.
        scores: [B, W, K] float32, log-probabilities of the tokens that are tried.
        tokens: [B, W, K] int32.
    """

    blank: tf.Tensor
    scores: tf.Tensor
    tokens: tf.Tensor


def transducer_beam_search(
    prediction: PredictionNetwork,
    joint: JointNetwork,
    encoded: tf.Tensor,
    num_frames: tf.Tensor,
    *,
    beam: int,
    max_symbols: int,
    token_beam: int,
    fusion: Fusion = NO_FUSION,
) -> tuple[NBest, tf.Tensor]:
    """Searches the token sequences whose alignments together are most probable.

    In each frame prefixes are extended up to `max_symbols` times, once by a monotonic joint
    network; those of the same tokens are one after it. They are ranked with the language model's
    score so far; its log-probability of the end is added after the last frame. An extension that
    ranks behind `beam` prefixes that are through the frame is dropped, and a frame is done when
    none is left. With more slots than there are prefixes, and all tokens tried, the scores are
    exact: sums over all alignments of at most `max_symbols` tokens a frame. Without frames the one
    hypothesis is empty, with the score 0 and the end's.

    A beam of 1 is not `transducer_greedy`: that compares a token with the blank, this what
    stands after either once the frame is read.

    Equal prefixes are found by `extended_key`'s 64-bit hash, their lengths and last tokens. The
    prediction network reads a token once, as it extends a prefix.

    Call it in a graph: eagerly, every operation of every frame is dispatched by itself. It holds
    4 B T `beam` (1 + `max_symbols`) bytes of back-pointers, twice in the end, and 4 B `beam`
    (V + 1) bytes of log-probabilities at a time.

    Args:
        prediction: Reads the tokens.
        joint: Scores the next symbol; the blank is V.
        encoded: [B, T, D] float.
        num_frames: [B] int32, real frames.
        beam: Prefixes kept after each frame and each extension, and hypotheses returned.
        max_symbols: Tokens in one frame at most.
        token_beam: Tokens tried as extensions of a prefix, the most probable.
        fusion: A language model and a bonus for each token.

    Returns:
        N = `beam` hypotheses, with log p, fused; the frame [B, N, U] of each of their tokens on
        the most probable alignment that was kept, int32, -1 in the padding.

    Raises:
        ValueError: A beam or `max_symbols` is less than 1.

    Source: Saon et al. (2020), "Alignment-Length Synchronous Decoding for RNN Transducer", the
        time-synchronous decoding.
    """
    search = _Search(prediction, joint, beam, max_symbols, token_beam, fusion)
    prefixes, slots, gained = _read(search, joint.encoder_dense(encoded), num_frames)
    return _listed(prefixes, slots, gained, fusion)


@dataclass(frozen=True, eq=False)
class _Search:
    """The networks and settings of a search, as `transducer_beam_search` takes them."""

    prediction: PredictionNetwork
    joint: JointNetwork
    beam: int
    max_symbols: int
    token_beam: int
    fusion: Fusion

    def __post_init__(self) -> None:
        for name in ("beam", "max_symbols", "token_beam"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")

    def first(self, size: tf.Tensor) -> _Prefixes:
        """Gives the empty prefix of `size` (scalar int32) utterances; the other slots are dead."""
        predicted, state = self.prediction.start(size)
        slots = tf.tile(tf.range(self.beam)[None], [size, 1])  # [B, W]
        zeros, floats = tf.zeros_like(slots), tf.zeros(tf.shape(slots))

        def for_each_slot(x: tf.Tensor) -> tf.Tensor:
            return tf.tile(x[:, None], [1, self.beam, 1])

        return _Prefixes(
            total=tf.where(slots == 0, 0.0, NEVER),
            best=floats,
            last=zeros + self.prediction.vocabulary,
            num_tokens=zeros,
            key=tf.cast(zeros, tf.int64),
            lm_state=zeros + self.fusion.language_model.start(),
            lm=floats,
            slot=slots,
            gained=self._nothing(slots),
            projected=for_each_slot(self.joint.prediction_dense(predicted)),
            output=for_each_slot(state.output),
            cell=for_each_slot(state.cell),
        )

    def read(self, prefixes: _Prefixes, frame: tf.Tensor, real: tf.Tensor) -> _Prefixes:
        """Reads a frame [B, J], projected, where it is `real` [B]."""
        slots = tf.zeros_like(prefixes.slot) + tf.range(self.beam)
        before = prefixes._replace(slot=slots, gained=self._nothing(slots))
        start = before._replace(total=tf.where(real[:, None], before.total, NEVER))
        symbols = self._scored(start, frame)
        through = _through(start, symbols)
        longer = self._extended(start, symbols, through)
        if self.joint.monotonic:
            longer = self._gained(longer, tf.constant(0))
            return _where(real, self._merged(through, longer), before)

        def extend(
            count: tf.Tensor, longer: _Prefixes, through: _Prefixes
        ) -> tuple[tf.Tensor, _Prefixes, _Prefixes]:
            longer = self._gained(longer, count)
            symbols = self._scored(longer, frame)
            through = self._merged(through, _through(longer, symbols))
            return count + 1, self._extended(longer, symbols, through), through

        _, _, through = tf.while_loop(
            lambda count, longer, _: (
                (count < self.max_symbols) & tf.reduce_any(longer.total > NEVER)
            ),
            extend,
            (tf.constant(0), longer, through),
        )
        return _where(real, through, before)

    def _nothing(self, slots: tf.Tensor) -> tf.Tensor:
        return tf.tile(-tf.ones_like(slots)[:, :, None], [1, 1, self.max_symbols])  # [B, W, S]

    def _scored(self, prefixes: _Prefixes, frame: tf.Tensor) -> _Symbols:
        """Scores what may follow the prefixes that are alive."""
        rows = _alive(prefixes)
        here = tf.gather(frame, rows // self.beam) + tf.gather(_rows(prefixes.projected), rows)
        scores = tf.nn.log_softmax(self.joint.output_dense(tf.tanh(here)))  # [rows, V + 1]
        tried = min(self.token_beam, self.prediction.vocabulary)
        token_scores, tokens = tf.math.top_k(scores[:, :-1], tried)
        found = _Symbols(scores[:, -1], token_scores, tokens)
        # Whatever is said of the dead, they stay so.
        return _Symbols(*(_spread(x, rows, prefixes.total) for x in found))

    def _ranks(self, prefixes: _Prefixes) -> tf.Tensor:
        return self.fusion.fuse(prefixes.total, prefixes.lm, prefixes.num_tokens)

    def _extended(self, prefixes: _Prefixes, symbols: _Symbols, through: _Prefixes) -> _Prefixes:
        """Takes the best extensions; their tokens are not yet read by the prediction network.

        Args:
            prefixes: What to extend.
            symbols: With what.
            through: Prefixes that are through the frame: to rank behind all of them is death.
        """
        tokens = symbols.tokens
        totals = prefixes.total[:, :, None] + symbols.scores  # [B, W, K]
        states = tf.broadcast_to(prefixes.lm_state[:, :, None], tf.shape(tokens))
        states, lm = self.fusion.language_model.step(states, tokens)
        lm += prefixes.lm[:, :, None]
        num_tokens = tf.broadcast_to(prefixes.num_tokens[:, :, None] + 1, tf.shape(tokens))
        last_in = tf.reduce_min(self._ranks(through), 1)[:, None, None]
        ranks = self.fusion.fuse(totals, lm, num_tokens)
        ranks = tf.where(ranks > last_in, ranks, NEVER)

        def flat(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(x, [tf.shape(x)[0], self.beam * tokens.shape[2]])

        ranks, kept = tf.math.top_k(flat(ranks), self.beam)  # [B, W]
        before = _take(prefixes, kept // tokens.shape[2])
        totals, gains, last, states, lm = (
            tf.gather(flat(x), kept, batch_dims=1)
            for x in (totals, symbols.scores, tokens, states, lm)
        )
        return before._replace(
            total=tf.where(ranks > NEVER, totals, NEVER),
            best=before.best + gains,
            last=last,
            num_tokens=before.num_tokens + 1,
            key=extended_key(before.key, last),
            lm_state=states,
            lm=lm,
        )

    def _gained(self, prefixes: _Prefixes, count: tf.Tensor) -> _Prefixes:
        """Writes down the last tokens, before which there were `count` in the frame."""
        here = tf.range(self.max_symbols) == count
        longer = self._remembered(prefixes)
        return longer._replace(gained=tf.where(here, longer.last[:, :, None], longer.gained))

    def _remembered(self, prefixes: _Prefixes) -> _Prefixes:
        """Has the prediction network read the last tokens of the prefixes that are alive."""
        rows = _alive(prefixes)
        last, output, cell = (
            tf.gather(_rows(x), rows) for x in (prefixes.last, prefixes.output, prefixes.cell)
        )
        predicted, state = self.prediction.step(last, LstmState(output, cell))
        projected = self.joint.prediction_dense(predicted)
        projected, output, cell = (_spread(x, rows, prefixes.total) for x in (projected, *state))
        return prefixes._replace(projected=projected, output=output, cell=cell)

    def _merged(self, through: _Prefixes, arrived: _Prefixes) -> _Prefixes:
        """Keeps the best of both; the same prefix in both becomes one."""
        same = (
            (through.key[:, :, None] == arrived.key[:, None])
            & (through.num_tokens[:, :, None] == arrived.num_tokens[:, None])
            & (through.last[:, :, None] == arrived.last[:, None])
            & (through.total > NEVER)[:, :, None]
            & (arrived.total > NEVER)[:, None]
        )  # [B, W, W], at most one in a row or column
        gained, rival = (
            tf.reduce_max(tf.where(same, x[:, None], NEVER), 2)
            for x in (arrived.total, arrived.best)
        )  # [B, W]
        absorbed = tf.reduce_any(same, 1)
        total = tf.concat(
            [
                tf.reduce_logsumexp(tf.stack([through.total, gained]), 0),
                tf.where(absorbed, NEVER, arrived.total),
            ],
            1,
        )  # [B, 2 W]
        both = _Prefixes(*(tf.concat(pair, 1) for pair in zip(through, arrived, strict=True)))
        kept = tf.math.top_k(self._ranks(both._replace(total=total)), self.beam).indices  # [B, W]
        # Equal prefixes differ in their best alignments only.
        other = self.beam + tf.argmax(tf.cast(same, tf.int32), 2, tf.int32)
        source = tf.where(rival > through.best, other, tf.range(self.beam))
        source = tf.concat([source, tf.zeros_like(source) + self.beam + tf.range(self.beam)], 1)
        merged = _take(both, tf.gather(source, kept, batch_dims=1))
        return merged._replace(total=tf.gather(total, kept, batch_dims=1))


def _rows(x: tf.Tensor) -> tf.Tensor:
    """Makes [B W, ...] of [B, W, ...]."""
    return tf.reshape(x, [-1, *x.shape[2:]])


def _alive(prefixes: _Prefixes) -> tf.Tensor:
    """Lists the rows, in [0, B W), of the prefixes that are alive."""
    return tf.where(_rows(prefixes.total) > NEVER)[:, 0]


def _spread(x: tf.Tensor, rows: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Puts what belongs to `rows`, [rows, ...], at its places in [B, W, ...], and 0 elsewhere."""
    inner = tf.shape(x, tf.int64)[1:]
    flat = tf.concat([tf.size(like, tf.int64)[None], inner], 0)
    spread = tf.scatter_nd(rows[:, None], x, flat)
    return tf.reshape(spread, tf.concat([tf.shape(like, tf.int64), inner], 0))


def _through(prefixes: _Prefixes, symbols: _Symbols) -> _Prefixes:
    """Says the blank after each prefix."""
    total, best = prefixes.total + symbols.blank, prefixes.best + symbols.blank
    return prefixes._replace(total=total, best=best)


def _take(prefixes: _Prefixes, indices: tf.Tensor) -> _Prefixes:
    return _Prefixes(*(tf.gather(x, indices, batch_dims=1) for x in prefixes))


def _where(real: tf.Tensor, new: _Prefixes, old: _Prefixes) -> _Prefixes:
    def choose(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reshape(real, [-1, *[1] * (len(new.shape) - 1)]), new, old)

    return _Prefixes(*(choose(*pair) for pair in zip(new, old, strict=True)))


def _read(
    search: _Search, projected: tf.Tensor, num_frames: tf.Tensor
) -> tuple[_Prefixes, tf.Tensor, tf.Tensor]:
    """Reads all frames [B, T, J]: the prefixes after the last, with slots and tokens gained.

    These are [T + 1, B, W] and [T + 1, B, W, S] int32. Entry 0 stands before the first frame: a
    stack of nothing would have no shape.
    """
    most = tf.shape(projected)[1]
    first = search.first(tf.shape(projected)[0])
    slots, gained = (
        tf.TensorArray(tf.int32, most + 1, element_shape=entry.shape).write(0, entry)
        for entry in (first.slot, first.gained)
    )

    def advance(
        frame: tf.Tensor, prefixes: _Prefixes, slots: tf.TensorArray, gained: tf.TensorArray
    ) -> tuple[tf.Tensor, _Prefixes, tf.TensorArray, tf.TensorArray]:
        after = search.read(prefixes, projected[:, frame], frame < num_frames)
        slots, gained = slots.write(frame + 1, after.slot), gained.write(frame + 1, after.gained)
        return frame + 1, after, slots, gained

    _, prefixes, slots, gained = tf.while_loop(
        lambda frame, *_: frame < most, advance, (tf.constant(0), first, slots, gained)
    )
    return prefixes, slots.stack(), gained.stack()


def _listed(
    prefixes: _Prefixes, slots: tf.Tensor, gained: tf.Tensor, fusion: Fusion
) -> tuple[NBest, tf.Tensor]:
    """Orders the prefixes after the last frame, from what `_read` gives."""
    lm = prefixes.lm + fusion.language_model.finish(prefixes.lm_state)
    scores = fusion.fuse(prefixes.total, lm, prefixes.num_tokens)
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    tokens, frames = _trace_back(order, slots, gained)
    num_tokens, scores = (tf.gather(x, order, batch_dims=1) for x in (prefixes.num_tokens, scores))
    nbest = best_first(tokens, num_tokens, scores)
    longest = tf.shape(nbest.tokens)[2]
    inside = tf.sequence_mask(nbest.num_tokens, longest)
    return nbest, tf.where(inside, frames[..., :longest], -1)


def _trace_back(
    ends: tf.Tensor, slots: tf.Tensor, gained: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Collects tokens and their frames, [B, W, U] each, of the prefixes in slots `ends` [B, W].

    Args:
        ends: [B, W] int32.
        slots: [T + 1, B, W] int32, of `_read`.
        gained: [T + 1, B, W, S] int32, of `_read`.
    """

    def back(
        after: tuple[tf.Tensor, tf.Tensor], entry: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        return tuple(tf.gather(x, after[0], batch_dims=1) for x in entry)

    _, path = tf.scan(back, (slots, gained), (ends, gained[0]), reverse=True)
    path = tf.transpose(path, [1, 2, 0, 3])  # [B, W, T + 1, S]
    frames = tf.broadcast_to(tf.range(tf.shape(path)[2])[:, None] - 1, tf.shape(path))

    def without_gaps(x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(path)
        flat = tf.concat([shape[:2], [shape[2] * shape[3]]], 0)
        kept = tf.reshape(path, flat) >= 0
        found = tf.ragged.boolean_mask(tf.reshape(x, flat), kept)
        return found.to_tensor(shape=[None, ends.shape[1], None])

    return without_gaps(path), without_gaps(frames)
